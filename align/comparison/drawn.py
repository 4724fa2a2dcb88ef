"""What a figure is: drawn once, with the numbers that it is drawn from; as SVG, PNG and PDF."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from align.files import written_aside
from align.report.panels import POLICY_COLOURS
from align.types import Result

INK = "#010203"
"""Text and lines; a page puts the reader's own colour in its place, so that they are seen in the dark."""
MIDDLE = "#808080"
COLOURS = (*POLICY_COLOURS, "#E69F00", "#56B4E9", "#9467BD", "#8C564B")
DOTS_PER_INCH = 150
MOST_WRITTEN = 12  # contestants up to which the matrix has its numbers in it
MOST_NAMED = 8  # groups up to which a legend helps
MOST_ROWS = 40  # groups up to which a row each can be read

Draws = Callable[[Any], None]
"""Draws on a ``matplotlib.axes.Axes``."""
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Drawn:
    """One figure: ``columns`` and ``rows`` are its CSV."""

    name: str
    section: str
    """Where it stands on the page."""
    title: str
    caption: str
    figure: Figure
    columns: tuple[str, ...]
    rows: list[Row]


def svg_of(drawn: Drawn) -> str:
    """The figure as SVG that takes the colour of the text about it, and reaches out to nothing."""
    buffer = io.BytesIO()
    # text stays text; ids are drawn from the name, so that figures on one page do not share them
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": drawn.name}):
        drawn.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def save(drawn: Drawn, folder: Path) -> None:
    """PNG and PDF, the same bytes from the same data."""
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Creator": None})):
        with written_aside(folder / f"{drawn.name}.{kind}") as file:
            drawn.figure.savefig(file, format=kind, facecolor="white", metadata=metadata)


def dots(rows: Sequence[tuple[str, Result]]) -> Draws:
    """A row each: the value, and its interval as a bar."""

    def on(ax: Any) -> None:
        for place, (_, result) in enumerate(rows):
            low = result.value if result.ci_low is None else result.ci_low
            high = result.value if result.ci_high is None else result.ci_high
            ax.plot([low, high], [place, place], color=COLOURS[0], linewidth=2.4, solid_capstyle="butt")
            ax.plot([result.value], [place], "o", color=COLOURS[0], markersize=5.5)
        ax.set_yticks(range(len(rows)), [label for label, _ in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)

    return on


def panels(drawn: Mapping[str, Draws], wide: float = 3.4, high: float = 2.7, columns: int = 3) -> Figure:
    """A figure of panels by title; ``wide`` and ``high`` in inches, of one panel."""
    columns = min(len(drawn), columns)
    rows = math.ceil(len(drawn) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(wide * columns, high * rows), dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    inks = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    )
    with matplotlib.rc_context({**inks, "font.size": 8}):
        for place, (title, draw) in enumerate(drawn.items(), start=1):
            ax = figure.add_subplot(rows, columns, place)
            ax.patch.set_alpha(0)
            draw(ax)
            ax.set_title(title, loc="left", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
        # laid out once: it is what takes longest, and each of three formats would do it anew
        layout.execute(figure)
        figure.set_layout_engine("none")
    return figure


def colours_of(count: int) -> list[str]:
    """As many colours: of the palette, or in order from dark to light where there are more than it has."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    scale = matplotlib.colormaps["viridis"]
    return [to_hex(scale(0.9 * place / (count - 1))) for place in range(count)]
