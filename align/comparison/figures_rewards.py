"""Figures of rewards: what they cost in drift, proxy against gold, how far a model can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from align.comparison.drawn import COLOURS, MIDDLE, MOST_NAMED, Drawn, Draws, colours_of, panels
from align.comparison.frontier import Frontier, Point
from align.comparison.reward_models import Judged
from align.evaluation.calibration import Bin


def frontier_figure(frontiers: Sequence[Frontier]) -> Drawn:
    """Reward gained over KL: a dot a policy, and the line of those that no other beats at no more drift."""
    colours = _colours(frontiers)

    def draw(frontier: Frontier) -> Draws:
        def on(ax: Any) -> None:
            _points(ax, frontier, colours, lambda point: point.kl)
            best = frontier.undominated()
            if len(frontier.points) > 1:
                edge = [*best, Point("", "", "", max(one.kl for one in frontier.points), best[-1].gained)]
                ax.step([one.kl for one in edge], [one.gained for one in edge], where="post", color=MIDDLE,
                        linewidth=1, label="frontier", zorder=0)  # fmt: skip
            ax.axhline(0, color=MIDDLE, linewidth=0.7, linestyle=":")
            ax.set_xlabel("KL to the reference (nats a reply)")
            ax.set_ylabel(f"{frontier.reward} reward gained")
            _legend(ax, len(colours))

        return on

    drawn = {f"{one.reward} reward": draw(one) for one in frontiers}
    rows = [
        (one.reward, point.group, point.run, point.policy, point.kl, point.gained, point in one.undominated())
        for one in frontiers
        for point in one.points
    ]
    caption = "Each dot is one run. The line joins those that no other run beats at as little drift or less."
    columns = ("reward", "group", "run", "policy", "kl", "gained", "on_frontier")
    figure = panels(drawn, wide=5.0, high=3.2, columns=2)
    return Drawn("frontier", "rewards", "Reward against KL", caption, figure, columns, rows)


def overoptimisation_figure(frontiers: Sequence[Frontier]) -> Drawn:
    """Rewards over sqrt KL with their curves of Gao et al.: proxy and gold, each on its own scale."""
    drawn = {
        "gold and proxy" if len(frontiers) > 1 else f"{frontiers[0].reward} reward": _side_by_side(frontiers)
    }
    rows = [
        (one.reward, math.sqrt(max(0.0, point.kl)), point.gained, point.group, point.run)
        for one in frontiers
        for point in one.points
    ]
    fits = "; ".join(f"{one.reward}: {one.words()}" for one in frontiers if one.curve is not None)
    caption = f"Lines are the curves of Gao et al. (2022), d the root of KL. {fits}."
    if len(frontiers) > 1:
        caption += " Each reward has its own scale, with zero at the same height."
    columns = ("reward", "sqrt_kl", "gained", "group", "run")
    figure = panels(drawn, wide=6.4, high=3.6)
    title = "Proxy against gold" if len(frontiers) > 1 else "Reward over the root of KL"
    return Drawn("overoptimisation", "rewards", title, caption, figure, columns, rows)


def _side_by_side(frontiers: Sequence[Frontier]) -> Draws:
    def on(ax: Any) -> None:
        axes: list[tuple[Any, float, float]] = []
        for place, frontier in enumerate(frontiers[:2]):
            axis = ax if place == 0 else ax.twinx()
            colour = COLOURS[place]
            d = [math.sqrt(max(0.0, one.kl)) for one in frontier.points]
            axis.plot(d, [one.gained for one in frontier.points], "os"[place], color=colour, markersize=4.5,
                      alpha=0.8)  # fmt: skip
            heights = [one.gained for one in frontier.points]
            if frontier.curve is not None:
                line = np.linspace(frontier.furthest() / 200, frontier.furthest(), 200)
                axis.plot(
                    line, frontier.curve.at(line), color=colour, linewidth=1.4, linestyle=("-", "--")[place]
                )
                heights += frontier.curve.at(line).tolist()
                if peak := frontier.peak():
                    axis.plot([peak[0]], [peak[1]], marker="v", color=colour, markersize=8)
            axes.append((axis, min(0.0, *heights), max(0.0, *heights)))
            axis.set_ylabel(f"{frontier.reward} reward gained", color=colour)
            axis.tick_params(axis="y", colors=colour)
            axis.spines[["top"]].set_visible(False)
        # as much below 0 on each axis as on the one that goes lowest, so that their zeros meet
        share = max(max(-low, 0.05 * (high - low)) / (high or 1.0) for _, low, high in axes)
        for axis, low, high in axes:
            top = high or -low / share
            axis.set_ylim(-1.08 * share * top, 1.08 * top)
        ax.axhline(0, color=MIDDLE, linewidth=0.7, linestyle=":")
        ax.set_xlim(left=0)
        ax.set_xlabel("d = sqrt KL to the reference (sqrt nats)")

    return on


def calibration_figure(models: Sequence[Judged]) -> Drawn:
    """The reliability curve: how often the model is right where it claims a chance, with intervals."""

    def curve(ax: Any) -> None:
        ax.plot([0.5, 1], [0.5, 1], color=MIDDLE, linewidth=1, linestyle=":", label="calibrated")
        for place, (one, colour) in enumerate(zip(models, colours_of(len(models)), strict=True)):
            _bins(ax, one.calibration.curve, colour, one.label, place, len(models), 0.006)
        ax.set_xlim(0.48, 1.02)
        ax.set_xlabel("chance that the model gives the reply it prefers")
        ax.set_ylabel("share in which that is the chosen one")
        _legend(ax, len(models))

    rows = [("calibration", one.label, *_row(each)) for one in models for each in one.calibration.curve]
    caption = "Below the dotted line the model claims more than is so. Bars are 95 % intervals, by prompt."
    figure = panels({"what it claims, and what is so": curve}, wide=5.2, high=4.2)
    return Drawn(
        "calibration", "reward_models", "Calibration", caption, figure, ("curve", "model", *_COLUMNS), rows
    )


def accuracy_figure(models: Sequence[Judged]) -> Drawn:
    """Accuracy by the model's own margin, by difference of length, and by strength of the label."""
    kinds = {
        "by_margin": ("size of the model's margin", [one.by_margin for one in models]),
        "by_length": ("tokens of chosen less rejected", [one.by_length for one in models]),
        "by_strength": ("strength of the label", [one.by_strength for one in models]),
    }
    kinds = {name: kind for name, kind in kinds.items() if any(kind[1])}

    def draw(name: str, words: str, curves: Sequence[Sequence[Bin]]) -> Draws:
        def on(ax: Any) -> None:
            ax.axhline(0.5, color=MIDDLE, linewidth=1, linestyle=":")
            seen = [each.mean for curve in curves for each in curve]
            nudge = 0.006 * (max(seen) - min(seen))
            for place, (curve, colour) in enumerate(zip(curves, colours_of(len(models)), strict=True)):
                _bins(ax, curve, colour, models[place].label, place, len(models), nudge)
            ax.set_xlabel(words)
            ax.set_ylabel("accuracy")
            ax.set_ylim(top=1.02)
            if name == "by_margin":
                _legend(ax, len(models))

        return on

    figure = panels(
        {f"accuracy {name.replace('_', ' ')}": draw(name, *kind) for name, kind in kinds.items()}, wide=4.4
    )
    rows = [
        (name, model.label, *_row(each))
        for name, (_, curves) in kinds.items()
        for model, curve in zip(models, curves, strict=True)
        for each in curve
    ]
    caption = (
        "Bins hold as many pairs each, ties half. A model that is right only where the chosen reply is "
        "longer has learnt length."
    )
    return Drawn(
        "accuracy", "reward_models", "Where it is right", caption, figure, ("curve", "model", *_COLUMNS), rows
    )


_COLUMNS = ("low", "high", "mean", "share", "ci_low", "ci_high", "n")


def _row(one: Bin) -> tuple[Any, ...]:
    share = one.share
    return one.low, one.high, one.mean, share.value, share.ci_low, share.ci_high, share.n


def _bins(
    ax: Any, bins: Sequence[Bin], colour: str, label: str, place: int, count: int, nudge: float
) -> None:
    if not bins:
        return
    # side by side, so that bars of several models do not hide each other
    x = [one.mean + nudge * (place - (count - 1) / 2) for one in bins]
    y = [one.share.value for one in bins]
    ax.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.2, label=label)
    if count <= MOST_NAMED:
        ax.vlines(x, [one.share.ci_low for one in bins], [one.share.ci_high for one in bins], color=colour,
                  linewidth=1, alpha=0.7)  # fmt: skip


def _colours(frontiers: Sequence[Frontier]) -> dict[str, str]:
    groups = list(dict.fromkeys(point.group for one in frontiers for point in one.points))
    return dict(zip(groups, colours_of(len(groups)), strict=True))


def _points(ax: Any, frontier: Frontier, colours: Mapping[str, str], x: Any) -> None:
    for group, colour in colours.items():
        mine = [point for point in frontier.points if point.group == group]
        if mine:
            ax.plot([x(one) for one in mine], [one.gained for one in mine], "o", color=colour, markersize=4.5,
                    alpha=0.85, label=group)  # fmt: skip


def _legend(ax: Any, count: int) -> None:
    if count <= MOST_NAMED:
        ax.legend(frameon=False, fontsize=7)
