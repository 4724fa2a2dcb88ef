"""The panels that figures are put together from: each takes data and gives a function that draws on axes.

A panel without data is None. Colours are Okabe and Ito's (2008), told apart by colour-blind readers too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from align.report.names import measure, reference_of, subject
from align.types import Result

Panel = Callable[[Any], None]
"""Draws on a ``matplotlib.axes.Axes``."""

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
POLICY_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)

_SMALL = 8
_TITLE = 9.5
_BINS = 30
_FEW = 10  # points of a curve that are marked one by one


def curves(lines: Sequence[Mapping[str, Any]], series: Mapping[str, str], title: str) -> Panel | None:
    """Metrics over optimiser steps: ``series`` maps what a curve is called to its key in the lines."""
    points = {
        called: [(line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)]
        for called, key in series.items()
    }
    drawn = {called: found for called, found in points.items() if found}
    if not drawn:
        return None

    def draw(ax: Any) -> None:
        for (called, found), colour in zip(drawn.items(), _colours(len(drawn)), strict=True):
            steps, values = zip(*found, strict=True)
            marker = "o" if len(found) <= _FEW else None
            ax.plot(steps, values, color=colour, linewidth=1.4, marker=marker, markersize=3, label=called)
        if len(drawn) > 1:
            ax.legend(frameon=False, fontsize=_SMALL)
        ax.locator_params(axis="x", nbins=5, integer=True)
        ax.set_xlabel("optimiser step", fontsize=_SMALL)
        _plain(ax, title)

    return draw


def accuracy(results: Sequence[Result]) -> Panel | None:
    """Each reward model's accuracy with its interval, beside chance and the best that is possible."""
    measured = [
        result
        for result in results
        if measure(result) == "accuracy" and subject(result) not in ("labels", "probe")
    ]
    limits = [result.value for result in results if measure(result) == "bayes_accuracy"]
    if not measured:
        return None

    def draw(ax: Any) -> None:
        _dots(ax, measured, [subject(result) for result in measured])
        ax.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
        _note(ax, 0.5, "chance")
        if limits:
            ax.axvline(limits[0], color=GREEN, linewidth=1.4, linestyle="--")
            _note(ax, limits[0], f"best possible {limits[0]:.3f}", GREEN, at_left=True)
        low = min([0.5, *(_bounds(result)[0] for result in measured)])
        high = max([*limits, *(_bounds(result)[1] for result in measured)])
        ax.set_xlim(low - 0.04, min(1.0, high + 0.04) if high < 1 else 1.02)
        ax.set_xlabel("share of unseen pairs, 95 % interval", fontsize=_SMALL)
        _plain(ax, "reward model: accuracy")

    return draw


def scores(samples: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> Panel | None:
    """How the scores of each policy's replies are distributed; a line at each mean, its interval shaded."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in samples:
        for policy, reply in row["replies"].items():
            for reward, score in reply.get("scores", {}).items():
                found.setdefault(reward, {}).setdefault(policy, []).append(score)
    if not found:
        return None
    reward, by_policy = next(iter(found.items()))
    means = {result.metric: result for result in results}

    def draw(ax: Any) -> None:
        everything = np.concatenate([np.asarray(values) for values in by_policy.values()])
        edges = np.histogram_bin_edges(everything, bins=_BINS)
        for (policy, values), colour in zip(by_policy.items(), _colours(len(by_policy)), strict=True):
            ax.hist(values, bins=edges, histtype="stepfilled", color=colour, alpha=0.25)
            ax.hist(values, bins=edges, histtype="step", color=colour, linewidth=1.4, label=policy)
            ax.axvline(float(np.mean(values)), color=colour, linewidth=1.2, linestyle="--")
            mean = means.get(f"{policy}/{reward}_reward")
            if mean is not None:
                ax.axvspan(*_bounds(mean), color=colour, alpha=0.25, linewidth=0)
        ax.legend(frameon=False, fontsize=_SMALL)
        ax.set_xlabel(f"{reward} reward of a reply (dashed: mean)", fontsize=_SMALL)
        ax.set_ylabel("replies", fontsize=_SMALL)
        _plain(ax, f"{reward} reward")

    return draw


def wins(results: Sequence[Result]) -> Panel | None:
    """Each policy's win rates with intervals, beside the one half of a policy that changed nothing."""
    measured = [result for result in results if measure(result).endswith("_win_rate")]
    if not measured:
        return None
    reference = reference_of(results)

    def draw(ax: Any) -> None:
        drifts = {subject(result): result.value for result in results if measure(result) == "kl"}
        labels = []
        for result in measured:
            policy, judge = subject(result), measure(result).removesuffix("_win_rate")
            moved = drifts.pop(policy, None)  # said once a policy
            labels.append(f"{policy}\nby {judge}" + ("" if moved is None else f"\nKL {moved:.1f} nats"))
        _dots(ax, measured, labels)
        ax.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
        _note(ax, 0.5, "no better")
        low = min([0.4, *(_bounds(result)[0] - 0.05 for result in measured)])
        ax.set_xlim(max(0.0, low), 1.02)
        ax.set_xlabel("share of prompts won, 95 % interval", fontsize=_SMALL)
        _plain(ax, f"win rate against {reference}" if reference else "win rate")

    return draw


def _dots(ax: Any, results: Sequence[Result], labels: Sequence[str]) -> None:
    """One row a result: a dot at its value, its interval as a bar, the number above."""
    for row, result in enumerate(results):
        low, high = _bounds(result)
        ax.plot([low, high], [row, row], color=BLUE, linewidth=2.5, solid_capstyle="butt")
        ax.plot([result.value], [row], color=BLUE, marker="o", markersize=7)
        above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": _SMALL}
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        ax.annotate(f"{result.value:.3f}", (result.value, row), bbox=behind, **above)
    ax.set_yticks(range(len(results)), labels, fontsize=_SMALL)
    ax.set_ylim(len(results) - 0.4, -0.6)


def _note(ax: Any, x: float, text: str, colour: str = GREY, at_left: bool = False) -> None:
    """Words beside a vertical line: to its right at the foot, or to its left at the head, of the panel."""
    side: dict[str, Any] = {"xytext": (-3, 0), "ha": "right"} if at_left else {"xytext": (3, 0), "ha": "left"}
    place = (x, 0.92 if at_left else 0.03)
    shared = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": _SMALL}
    ax.annotate(text, place, color=colour, **shared, **side)


def _bounds(result: Result) -> tuple[float, float]:
    low = result.value if result.ci_low is None else result.ci_low
    high = result.value if result.ci_high is None else result.ci_high
    return low, high


def _colours(count: int) -> list[str]:
    return [POLICY_COLOURS[index % len(POLICY_COLOURS)] for index in range(count)]


def _plain(ax: Any, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=_TITLE)
    ax.tick_params(labelsize=_SMALL)
    ax.spines[["top", "right"]].set_visible(False)
