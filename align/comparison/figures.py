"""Figures of metrics and of who wins against whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from align.comparison.differences import Difference
from align.comparison.drawn import COLOURS, MIDDLE, MOST_ROWS, MOST_WRITTEN, Drawn, Draws, dots, panels
from align.comparison.groups import Cell
from align.comparison.replies import Tournament
from align.types import Result

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


def differences_figure(differences: Sequence[Difference], by: str) -> Drawn:
    """A row a pair: the difference of these runs over prompts, and over seeds where it is known."""
    shown = list(differences)[:MOST_ROWS]
    colours = {"over prompts and seeds": COLOURS[2], "in these runs": COLOURS[0], "not shown": MIDDLE}

    def on(ax: Any) -> None:
        for place, one in enumerate(shown):
            colour = colours[_shown_how(one)]
            if one.seeds is not None:
                seeds = one.seeds.difference
                ax.plot([seeds.ci_low, seeds.ci_high], [place + 0.22] * 2, color=colour, linewidth=0.9)
            ax.plot([one.score.ci_low, one.score.ci_high], [place] * 2, color=colour, linewidth=2.6)
            ax.plot([one.score.value], [place], "o", color=colour, markersize=5)
        # seeds' intervals may be so wide that nothing else is seen
        bounds = [abs(bound) for one in shown for bound in (one.score.ci_low, one.score.ci_high) if bound]
        widest = 2.5 * max(bounds, default=1.0)
        ax.set_xlim(max(-widest, ax.get_xlim()[0]), min(widest, ax.get_xlim()[1]))
        ax.axvline(0, color=MIDDLE, linewidth=0.8, linestyle=":")
        ax.set_yticks(range(len(shown)), [f"{one.ours}  less  {one.theirs}" for one in shown])
        ax.set_ylim(len(shown) - 0.3, -0.7)
        ax.set_xlabel(f"difference of {by}")
        marks = [Line2D([], [], color=colour, linewidth=2.6, label=name) for name, colour in colours.items()]
        ax.legend(handles=marks, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    rows = []
    for one in differences:
        seeds = (
            (None, None) if one.seeds is None else (one.seeds.difference.ci_low, one.seeds.difference.ci_high)
        )
        rows.append(
            (one.ours, one.theirs, one.score.value, one.score.ci_low, one.score.ci_high, *seeds, one.verdict)
        )
    caption = (
        "Thick: 95 % intervals of these runs over prompts. Thin below them: over seeds, cut where they leave "
        "the picture. Colours are verdicts, after Holm's correction."
    )
    if len(differences) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(differences)} pairs; the CSV has all."
    columns = (
        "ours",
        "theirs",
        "difference",
        "ci_low",
        "ci_high",
        "seeds_ci_low",
        "seeds_ci_high",
        "verdict",
    )
    figure = panels({f"by {by}": on}, wide=8.6, high=1.3 + 0.34 * len(shown))
    return Drawn("differences", "pairs", "How far apart", caption, figure, columns, rows)


def _shown_how(one: Difference) -> str:
    return "over prompts and seeds" if one.sure else "in these runs" if one.shown else "not shown"


def length_figure(wins: Mapping[str, Result], controlled: Mapping[str, Result | str]) -> Drawn:
    """Win rates against the reference, plain and at equal length, beside each other."""
    told = {name: one for name, one in controlled.items() if isinstance(one, Result)}
    shown = list(told)[:MOST_ROWS]

    def on(ax: Any) -> None:
        for place, name in enumerate(shown):
            for below, one, colour in ((-0.13, wins[name], MIDDLE), (0.13, told[name], COLOURS[0])):
                ax.plot([one.ci_low, one.ci_high], [place + below] * 2, color=colour, linewidth=2.2)
                ax.plot([one.value], [place + below], "o", color=colour, markersize=5)
        ax.axvline(0.5, color=MIDDLE, linewidth=0.8, linestyle=":")
        ax.set_yticks(range(len(shown)), shown)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        marks = [
            Line2D([], [], color=colour, linewidth=2.2, label=label)
            for label, colour in (("as they replied", MIDDLE), ("at equal length", COLOURS[0]))
        ]
        ax.legend(handles=marks, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    rows = [
        (name, kind, one.value, one.ci_low, one.ci_high, one.n)
        for name in told
        for kind, one in (("plain", wins[name]), ("equal_length", told[name]))
    ]
    caption = "Where the second falls behind the first, wins were bought with length (Dubois et al. 2024)."
    figure = panels({"win rate against the reference": on}, wide=7.6, high=1.2 + 0.4 * len(shown))
    columns = ("policy", "kind", "win_rate", "ci_low", "ci_high", "n")
    return Drawn("equal_length", "length", "Plain and at equal length", caption, figure, columns, rows)


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
