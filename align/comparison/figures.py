"""Figures of metrics and of who wins against whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from align.comparison.drawn import COLOURS, MOST_ROWS, MOST_WRITTEN, Drawn, Draws, dots, panels
from align.comparison.groups import Cell
from align.comparison.replies import Tournament

MOST_BELOW = 16  # contestants whose numbers fit below the matrix


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
        below = range(0, size, 1 + size // MOST_BELOW)  # numbers that do not run into each other
        ax.set_xticks(list(below), [numbers[place] for place in below])
        ax.set_yticks(list(shown), [named[place] for place in shown])

    drawn: dict[str, Draws] = {"share of prompts that the row wins against the column": matrix}
    if isinstance(found.ranking, tuple) and size <= MOST_ROWS:
        drawn["strength (log odds, Bradley-Terry)"] = dots(
            [(str(place), one) for place, one in enumerate(found.ranking, start=1)]
        )
    rows = [
        (ours, theirs, float(found.rates_KK[i, j]))
        for i, ours in enumerate(found.names)
        for j, theirs in enumerate(found.names)
        if i != j
    ]
    caption = f"By {reward} reward on the same prompts, ties half."
    figure = panels(drawn, wide=5.2, high=1.5 + 0.3 * min(size, MOST_ROWS))
    return Drawn(
        "wins", "pairs", "Who wins against whom", caption, figure, ("row", "column", "win_rate"), rows
    )


def metric_figure(metric: str, row: Mapping[str, Cell], words: str) -> Drawn:
    """One metric of each group with its 95 % interval; small dots are the single runs."""
    shown = list(row.items())[:MOST_ROWS]

    def on(ax: Any) -> None:
        dots([(label, cell.result) for label, cell in shown])(ax)
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
    figure = panels({metric: on}, wide=7.0, high=1.1 + 0.32 * len(shown))
    columns = ("group", "value", "ci_low", "ci_high", "seed_sd", "runs")
    return Drawn(metric.replace("/", "_"), "metric", words, caption, figure, columns, rows)
