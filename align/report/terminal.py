"""What a run found, for a person at a terminal 80 columns wide; plain text where there is no terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from align.distributed.world import world
from align.report.names import compares, in_words, measure, rank, reference_of, subject
from align.types import Result

SHOWN_CHARACTERS = 400
"""Characters of a reply or prompt that are shown; what is left out is counted."""


def print_summary(
    results: Sequence[Result],
    samples: Sequence[Mapping[str, Any]] = (),
    places: Mapping[str, Path] | None = None,
    console: Console | None = None,
    shown: int = 3,
) -> None:
    """Results, the first ``shown`` samples side by side (not a choice of the best), and where files lie.

    ``samples`` are rows of ``samples.jsonl``; ``places`` maps what was written to its path. Of several ranks
    the first one prints.
    """
    if not world().leads:
        return
    console = console or Console()
    parts: list[RenderableType] = [summary_table(results)]
    for number, row in enumerate(samples[:shown], start=1):
        parts += ["", side_by_side(row, f"Sample {number} of {len(samples)}")]
    if places:
        parts += ["", places_table(places)]
    with console.capture() as capture:
        console.print(Group(*parts))
    lines = "\n".join(line.rstrip() for line in capture.get().split("\n"))
    # a reply may hold characters that the terminal cannot print: that must not end a run
    console.file.write(lines.encode(console.encoding, "backslashreplace").decode(console.encoding))
    console.file.flush()


def summary_table(results: Sequence[Result]) -> Table:
    """Every result, grouped by what it is about: the reward model, then each policy."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", ratio=1)
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    reference = reference_of(results)
    for group in dict.fromkeys(subject(result) for result in results):
        members = sorted((result for result in results if subject(result) == group), key=rank)
        table.add_row(Text(_heading(group, members, reference), style="bold"), "", "", "")
        for result in members:
            words = Text(f"  {in_words(result)}")
            table.add_row(words, number(result.value), _interval(result), str(result.n))
            if measure(result) == "bayes_accuracy":
                table.add_row("  share of the best possible", _share_of_best(members), "", "")
    return table


def side_by_side(row: Mapping[str, Any], title: str) -> Table:
    """One prompt and the replies to it: a column a policy, its scores and length in the header."""
    replies: Mapping[str, Mapping[str, Any]] = row["replies"]
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        expand=True,
        title=Text.assemble((title, "bold"), "\n", _prompt(row["prompt"])),
        title_justify="left",
        title_style="",
    )
    for label, reply in replies.items():
        table.add_column(Text(_reply_heading(label, reply)), ratio=1, overflow="fold")
    table.add_row(*(Text(clipped(reply["text"]) or "(empty)") for reply in replies.values()))
    return table


def places_table(places: Mapping[str, Path]) -> Table:
    """What was written where, one line each; long paths fold and stay whole."""
    table = Table(
        box=None, pad_edge=False, show_header=False, title="Written", title_justify="left", title_style="bold"
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, path in places.items():
        table.add_row(f"  {name}", Text(str(path)))
    return table


def number(value: float) -> str:
    """About four digits: 0.842, 3.142, 27.18, 314.2."""
    decimals = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:.{decimals}f}"


def clipped(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a text, safe to print."""
    cut = f"{text[:limit].rstrip()} ... ({len(text) - limit} more characters)" if len(text) > limit else text
    return printable(cut.strip())


def printable(text: str) -> str:
    """Control characters (a reply may hold escape codes that a terminal obeys) as escapes; new lines stay."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Cf") and character not in "\n\u200c\u200d"
        else character
        for character in text
    )


def _prompt(messages: Sequence[Mapping[str, str]]) -> str:
    earlier = len(messages) - 1
    turns = f"({earlier} earlier turn{'s' if earlier > 1 else ''}) " if earlier else ""
    return turns + clipped(messages[-1]["content"])


def _reply_heading(label: str, reply: Mapping[str, Any]) -> str:
    scores = [f"{name} {number(score)}" for name, score in reply.get("scores", {}).items()]
    length = f"{reply['tokens']} tokens" if "tokens" in reply else f"{reply['words']} words"
    length += "" if reply["ended"] else ", cut"
    return f"{label}: " + ", ".join([*scores, length])


def _heading(group: str, members: Sequence[Result], reference: str | None) -> str:
    if group == "labels":
        return "labels of the pairs, by gold"
    if group == "probe":
        return "sides of unseen pairs by word counts"
    if any(measure(result) == "accuracy" for result in members):
        return f"{group} model on unseen pairs"
    if reference is not None and any(compares(result) for result in members):
        return f"{group} against {reference}"
    return group or "other"


def _interval(result: Result) -> str:
    if result.ci_low is None or result.ci_high is None:
        return ""
    return f"{number(result.ci_low)} to {number(result.ci_high)}"


def _share_of_best(members: Sequence[Result]) -> str:
    values = {measure(result): result.value for result in members}
    # the best possible is at least a half: it takes the likelier side
    return f"{values['accuracy'] / values['bayes_accuracy']:.1%}" if "accuracy" in values else ""
