"""The figures of a comparison: each drawn once, with the numbers that it is drawn from."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from align.comparison.curves import Band
from align.comparison.frontier import Frontier
from align.comparison.groups import Cell
from align.comparison.replies import Tournament
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

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Drawn:
    """One figure: ``columns`` and ``rows`` are its CSV."""

    name: str
    title: str
    caption: str
    figure: Figure
    columns: tuple[str, ...]
    rows: list[Row]


def curves_figure(curves: Mapping[str, Sequence[Band]]) -> Drawn:
    """A panel a metric: mean over seeds of each group, one standard deviation about it."""

    labels = list(dict.fromkeys(band.label for bands in curves.values() for band in bands))
    first = next(iter(curves), "")

    def draw(name: str, bands: Sequence[Band]) -> Callable[[Any], None]:
        def on(ax: Any) -> None:
            for band, colour in zip(bands, _colours(len(bands)), strict=True):
                mean = np.array(band.mean)
                alone = "o" if len(band.steps) == 1 else None  # a line of one point is not seen
                ax.plot(band.steps, mean, marker=alone, color=colour, linewidth=1.3, label=band.label)
                if band.spread is not None:
                    low, high = mean - band.spread, mean + np.array(band.spread)
                    ax.fill_between(band.steps, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.set_xlabel("optimiser step")
            if name == first and 1 < len(labels) <= MOST_NAMED:
                ax.legend(frameon=False, fontsize=7)

        return on

    figure = _panels({name: draw(name, bands) for name, bands in curves.items()}, wide=3.9)
    rows = [
        (name, band.label, step, mean, None if band.spread is None else band.spread[place])
        for name, bands in curves.items()
        for band in bands
        for place, (step, mean) in enumerate(zip(band.steps, band.mean, strict=True))
    ]
    caption = "Mean over seeds, with one standard deviation between seeds shaded where there are several."
    return Drawn("curves", "Training", caption, figure, ("metric", "group", "step", "mean", "seed_sd"), rows)


def frontier_figure(frontiers: Sequence[Frontier]) -> Drawn:
    """Reward gained over the root of KL: a dot a policy, and the curve of Gao et al. where it fits."""

    def draw(frontier: Frontier) -> Callable[[Any], None]:
        def on(ax: Any) -> None:
            groups = list(dict.fromkeys(point.group for point in frontier.points))
            for group, colour in zip(groups, _colours(len(groups)), strict=True):
                mine = [point for point in frontier.points if point.group == group]
                d, y = [math.sqrt(max(0.0, one.kl)) for one in mine], [one.gained for one in mine]
                ax.plot(d, y, "o", color=colour, markersize=4.5, alpha=0.85, label=group)
            if frontier.curve is not None:
                far = max(math.sqrt(max(0.0, point.kl)) for point in frontier.points)
                line = np.linspace(far / 200, far, 200)
                ax.plot(
                    line, frontier.curve.at(line), color=MIDDLE, linewidth=1.2, linestyle="--", label="fit"
                )
            ax.axhline(0, color=MIDDLE, linewidth=0.7, linestyle=":")
            ax.set_xlabel("sqrt KL to the reference (sqrt nats)")
            ax.set_ylabel(f"{frontier.reward} reward gained")
            if len(groups) <= MOST_NAMED:
                ax.legend(frameon=False, fontsize=7)

        return on

    panels = {f"{one.reward} reward": draw(one) for one in frontiers}
    rows = [
        (one.reward, point.group, point.run, point.policy, point.kl, point.gained)
        for one in frontiers
        for point in one.points
    ]
    fits = [f"{one.reward}: {one.words()}" for one in frontiers if one.curve is not None]
    caption = "Each dot is one run." + (f" Dashed: {'; '.join(fits)} (Gao et al. 2022)." if fits else "")
    columns = ("reward", "group", "run", "policy", "kl", "gained")
    return Drawn("frontier", "Reward against KL", caption, _panels(panels, wide=4.6), columns, rows)


def matrix_figure(found: Tournament, reward: str) -> Drawn:
    """Win rates of the row against the column, with the strengths beside them where there are any."""
    size = len(found.names)

    def matrix(ax: Any) -> None:
        ax.imshow(found.rates_KK, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        if size <= MOST_WRITTEN:
            for (row, column), rate in np.ndenumerate(found.rates_KK):
                if not math.isnan(rate):
                    pale = 0.25 < rate < 0.75
                    ax.text(column, row, f"{rate:.2f}", ha="center", va="center", fontsize=8,
                            color="#111111" if pale else "#ffffff")  # fmt: skip
        numbers = [str(place) for place in range(1, size + 1)]
        named = [f"{name}  {place}" for place, name in zip(numbers, found.names, strict=True)]
        shown = range(size) if size <= MOST_ROWS else range(0, size, size // MOST_ROWS + 1)
        ax.set_xticks(list(shown), [numbers[place] for place in shown])
        ax.set_yticks(list(shown), [named[place] for place in shown])

    panels: dict[str, Callable[[Any], None]] = {
        "share of prompts that the row wins against the column": matrix
    }
    if isinstance(found.ranking, tuple) and size <= MOST_ROWS:
        panels["strength (log odds, Bradley-Terry)"] = _dots(
            [(str(place), one) for place, one in enumerate(found.ranking, start=1)]
        )
    rows = [
        (ours, theirs, float(found.rates_KK[i, j]))
        for i, ours in enumerate(found.names)
        for j, theirs in enumerate(found.names)
        if i != j
    ]
    caption = f"By {reward} reward on the same prompts, ties half."
    figure = _panels(panels, wide=5.2, high=1.5 + 0.3 * min(size, MOST_ROWS))
    return Drawn("wins", "Who wins against whom", caption, figure, ("row", "column", "win_rate"), rows)


def metric_figure(metric: str, row: Mapping[str, Cell], words: str) -> Drawn:
    """One metric of each group with its 95 % interval; small dots are the single runs."""
    shown = list(row.items())[:MOST_ROWS]

    def on(ax: Any) -> None:
        _dots([(label, cell.result) for label, cell in shown])(ax)
        for place, (_, cell) in enumerate(shown):
            if len(cell.values) > 1:
                ax.plot(cell.values, [place] * len(cell.values), "|", color=COLOURS[1], markersize=8)

    rows = [
        (label, cell.result.value, cell.result.ci_low, cell.result.ci_high, cell.spread, len(cell.values))
        for label, cell in row.items()
    ]
    caption = "95 % intervals: over seeds where there are several runs (a bar each), over prompts otherwise."
    if len(row) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(row)} groups; the CSV has all."
    figure = _panels({metric: on}, wide=7.0, high=1.1 + 0.32 * len(shown))
    columns = ("group", "value", "ci_low", "ci_high", "seed_sd", "runs")
    return Drawn(metric.replace("/", "_"), words, caption, figure, columns, rows)


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


def _dots(rows: Sequence[tuple[str, Result]]) -> Callable[[Any], None]:
    def on(ax: Any) -> None:
        for place, (_, result) in enumerate(rows):
            low = result.value if result.ci_low is None else result.ci_low
            high = result.value if result.ci_high is None else result.ci_high
            ax.plot([low, high], [place, place], color=COLOURS[0], linewidth=2.4, solid_capstyle="butt")
            ax.plot([result.value], [place], "o", color=COLOURS[0], markersize=5.5)
        ax.set_yticks(range(len(rows)), [label for label, _ in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)

    return on


def _panels(drawn: Mapping[str, Callable[[Any], None]], wide: float = 3.4, high: float = 2.7) -> Figure:
    columns = min(len(drawn), 3)
    rows = math.ceil(len(drawn) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(wide * columns, high * rows), dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    colours = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    )
    with matplotlib.rc_context({**colours, "font.size": 8}):
        for place, (title, draw) in enumerate(drawn.items(), start=1):
            ax = figure.add_subplot(rows, columns, place)
            ax.patch.set_alpha(0)
            draw(ax)
            ax.set_title(title, loc="left", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
    return figure


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]
