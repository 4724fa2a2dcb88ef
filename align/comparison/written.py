"""A comparison on disk and on the screen: tables as CSV, figures, the page, and what a terminal shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.comparison.curves import training_curves
from align.comparison.figures import Drawn, curves_figure, frontier_figure, matrix_figure, metric_figure, save
from align.comparison.page import interval, p_value, page
from align.comparison.whole import Comparison
from align.files import write_json, write_whole
from align.report.names import in_words, measure
from align.report.terminal import number
from align.types import Result

SHOWN_METRICS = 6
SHOWN_DIFFERENCES = 20


def figures_of(found: Comparison) -> list[Drawn]:
    """Every figure that there are numbers for."""
    drawn = []
    first = next(iter(found.shown()), None)
    if first is not None and len(found.groups) > 1:
        words = in_words(Result(first, 0.0, 0, None, None, ""))
        drawn.append(metric_figure(first, found.cells[first], words[:1].upper() + words[1:]))
    if found.tournament is not None:
        drawn.append(matrix_figure(found.tournament, str(found.reward)))
    if found.frontiers:
        drawn.append(frontier_figure(found.frontiers))
    curves = training_curves(found.groups)
    return [*drawn, curves_figure(curves)] if curves else drawn


def write(found: Comparison, folder: Path) -> dict[str, Path]:
    """compare.json, metrics.csv, differences.csv, figures/ (PNG, PDF, CSV) and comparison.html."""
    drawn = figures_of(found)
    for one in drawn:
        save(one, folder / "figures")
        write_whole(folder / "figures" / f"{one.name}.csv", csv_text(one.columns, one.rows))
    write_json(folder / "compare.json", found.plain())
    columns = ("metric", "group", "value", "ci_low", "ci_high", "seed_sd", "n", "method")
    rows = [
        (metric, label, *_numbers(cell.result), cell.spread, cell.result.n, cell.result.method)
        for metric in found.shown()
        for label, cell in found.cells[metric].items()
    ]
    write_whole(folder / "metrics.csv", csv_text(columns, rows))
    of_pairs = (
        "ours theirs difference ci_low ci_high win_rate p p_holm p_seeds_holm mcnemar detectable verdict"
    )
    pairs = [
        (
            *(one.ours, one.theirs, *_numbers(one.score), one.win_rate, one.p, one.p_holm),
            *(one.seeds_p_holm, one.mcnemar, one.detectable, one.verdict),
        )
        for one in found.differences
    ]
    write_whole(folder / "differences.csv", csv_text(of_pairs.split(), pairs))
    write_whole(folder / "comparison.html", page(found, drawn))
    places = {"page": "comparison.html", "everything": "compare.json", "metrics": "metrics.csv"}
    places |= {"differences": "differences.csv", "figures": "figures"}
    return {name: folder / place for name, place in places.items()}


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows under their names, floats to the last bit, nothing where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """The first metrics of each group, and what may be said of each pair."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("group", "value", "95 % interval", "seed sd", "n"):
        table.add_column(name, justify="left" if name == "group" else "right", overflow="fold")
    for metric in found.shown()[:SHOWN_METRICS]:
        about = metric.removesuffix(measure(Result(metric, 0.0, 0, None, None, ""))).rstrip("/")
        words = in_words(Result(metric, 0.0, 0, None, None, ""))
        table.add_row(Text(f"{about}: {words}" if about else words, style="bold"), "", "", "", "")
        for label, cell in found.cells[metric].items():
            spread = "" if cell.spread is None else number(cell.spread)
            value, n = number(cell.result.value), str(cell.result.n)
            table.add_row(Text(f"  {label}"), value, interval(cell.result), spread, n)
    console.print(table)
    if found.unpaired:
        console.print(Text(f"\nNothing was compared prompt by prompt: {found.unpaired}."))
        return
    pairs = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in (f"less, by {found.reward}", "difference", "p", "p seeds", "verdict"):
        pairs.add_column(name, overflow="fold")
    for one in found.differences[:SHOWN_DIFFERENCES]:
        shown = (number(one.score.value), p_value(one.p_holm), p_value(one.seeds_p_holm))
        pairs.add_row(Text(f"{one.ours} - {one.theirs}"), *shown, Text(one.verdict))
    console.print("")
    console.print(pairs)
    rest = len(found.differences) - SHOWN_DIFFERENCES
    if rest > 0:
        console.print(f"... and {rest} more pairs in differences.csv")


def _numbers(result: Result) -> tuple[float, float | None, float | None]:
    return result.value, result.ci_low, result.ci_high
