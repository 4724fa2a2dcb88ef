"""One HTML page of a comparison: everything inside it, nothing fetched, readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from align.comparison.drawn import MOST_ROWS, Drawn, svg_of
from align.comparison.groups import shown
from align.comparison.in_short import in_short, title_of, words_of
from align.comparison.whole import Comparison
from align.report.terminal import number
from align.types import Result


def page(found: Comparison, figures: Sequence[Drawn]) -> str:
    """The page as text; names of runs and options are escaped wherever they stand."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ranking = found.tournament.ranking if found.tournament else ()
    sections: dict[str, list[dict[str, Any]]] = {}
    for one in figures:
        # drawn here from escaped text: matplotlib writes it as XML
        entry = {"title": one.title, "caption": one.caption, "name": one.name, "svg": Markup(svg_of(one))}
        sections.setdefault(one.section, []).append(entry)
    return environment.get_template("page.html").render(
        title=title_of(found),
        sentences=in_short(found),
        found=found,
        runs=sum(len(group.runs) for group in found.groups),
        keys=list(found.groups[0].settings),
        ranking=ranking,
        figures=sections,
        most_rows=MOST_ROWS,
        number=number,
        interval=interval,
        p_value=p_value,
        words_of=words_of,
        shown=shown,
    )


def interval(result: Result) -> str:
    """``0.61 to 0.72``; nothing where there is none."""
    if result.ci_low is None or result.ci_high is None:
        return ""
    return f"{number(result.ci_low)} to {number(result.ci_high)}"


def p_value(p: float | None) -> str:
    """Three digits, and no smaller than 0.001; nothing where there is no test."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
