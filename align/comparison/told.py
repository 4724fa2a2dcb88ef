"""A comparison at a terminal: what may be said, the first metrics, each pair, reward models, alarms."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.comparison.in_short import in_short, words_of
from align.comparison.page import interval, p_value
from align.comparison.whole import Comparison
from align.report.terminal import number

SHOWN_METRICS = 6
SHOWN_DIFFERENCES = 20
SHOWN_ALARMS = 20


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """Sentences first, then the tables that they are drawn from."""
    console = console or Console()
    for sentence in in_short(found):
        console.print(Text(f"* {sentence}"))
    console.print("")
    console.print(_metrics(found))
    if found.differences:
        console.print("")
        console.print(_pairs(found))
        _rest(console, len(found.differences) - SHOWN_DIFFERENCES, "pairs in differences.csv")
    if found.models:
        console.print("")
        console.print(_models(found))
    for label, reason in found.no_models.items():
        console.print(Text(f"reward model {label}: {reason}"))
    if found.alarms.raised:
        console.print("")
        console.print(_alarms(found))
        _rest(console, len(found.alarms.raised) - SHOWN_ALARMS, "alarms in figures/alarms.csv")


def _metrics(found: Comparison) -> Table:
    table = _table("group", "value", "95 % interval", "seed sd", "n")
    for metric in found.shown()[:SHOWN_METRICS]:
        table.add_row(Text(words_of(metric), style="bold"), "", "", "", "")
        for label, cell in found.cells[metric].items():
            spread = "" if cell.spread is None else number(cell.spread)
            value, n = number(cell.result.value), str(cell.result.n)
            table.add_row(Text(f"  {label}"), value, interval(cell.result), spread, n)
    return table


def _pairs(found: Comparison) -> Table:
    table = _table(f"less, by {found.by}", "difference", "p", "p seeds", "verdict")
    for one in found.differences[:SHOWN_DIFFERENCES]:
        shown = (number(one.score.value), p_value(one.p_holm), p_value(one.seeds_p_holm))
        table.add_row(Text(f"{one.ours} - {one.theirs}"), *shown, Text(one.verdict))
    return table


def _models(found: Comparison) -> Table:
    table = _table("reward model on unseen pairs", "value", "95 % interval", "n")
    for one in found.models:
        table.add_row(Text(one.label, style="bold"), "", "", "")
        for each in one.numbers:
            words = f"  {each.metric.removeprefix('reward/')}"
            table.add_row(words, number(each.value), interval(each), str(each.n))
        chance = f"by chance below {number(one.by_chance)}"
        table.add_row("  calibration error (ECE)", number(one.calibration.ece), chance, str(one.pairs))
    return table


def _alarms(found: Comparison) -> Table:
    table = _table("alarm", "group", "run", "step")
    for one in found.alarms.raised[:SHOWN_ALARMS]:
        table.add_row(Text(one.alarm), Text(one.group), Text(one.run), f"{one.step} of {one.last}")
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numbers: Iterable[str] = ("value", "95 % interval", "seed sd", "n")
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    return table


def _rest(console: Console, count: int, where: str) -> None:
    if count > 0:
        console.print(f"... and {count} more {where}")
