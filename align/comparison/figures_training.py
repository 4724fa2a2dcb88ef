"""Figures of training: curves over steps and over drift, and when alarms were raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from align.comparison.curves import Band
from align.comparison.drawn import COLOURS, MIDDLE, MOST_NAMED, MOST_ROWS, Drawn, Draws, colours_of, panels
from align.comparison.warned import Alarms

_MARKS = "osD^vPX*"


def curves_figure(curves: Mapping[str, Sequence[Band]]) -> Drawn:
    """A panel a metric: mean over seeds of each group, one standard deviation about it."""
    colours = _colours(curves)

    def draw(name: str, bands: Sequence[Band]) -> Draws:
        def on(ax: Any) -> None:
            for band in bands:
                mean, colour = np.array(band.mean), colours[band.label]
                alone = "o" if len(band.steps) == 1 else None  # a line of one point is not seen
                ax.plot(band.steps, mean, marker=alone, color=colour, linewidth=1.3, label=band.label)
                if band.spread is not None and len(colours) <= MOST_NAMED:
                    low, high = mean - band.spread, mean + np.array(band.spread)
                    ax.fill_between(band.steps, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.set_xlabel("optimiser step")
            _named(ax, name, curves, colours)

        return on

    figure = panels({name: draw(name, bands) for name, bands in curves.items()}, wide=3.9)
    rows = [
        (name, band.label, step, mean, None if band.spread is None else band.spread[place])
        for name, bands in curves.items()
        for band in bands
        for place, (step, mean) in enumerate(zip(band.steps, band.mean, strict=True))
    ]
    caption = "Mean over seeds, with one standard deviation between seeds shaded where there are several."
    if len(colours) > MOST_NAMED:
        caption = (
            f"Mean over seeds of {len(colours)} groups; the CSV has their names and standard deviations."
        )
    columns = ("metric", "group", "step", "mean", "seed_sd")
    return Drawn("curves", "training", "Over optimiser steps", caption, figure, columns, rows)


def drift_figure(curves: Mapping[str, Sequence[Band]]) -> Drawn:
    """A panel a metric over the KL of the same step: what each nat of drift bought."""
    colours = _colours(curves)

    def draw(name: str, bands: Sequence[Band]) -> Draws:
        def on(ax: Any) -> None:
            for band in bands:
                colour = colours[band.label]
                ax.plot(band.drift, band.mean, color=colour, linewidth=0.9, alpha=0.6, label=band.label)
                if len(colours) <= MOST_NAMED:
                    ax.scatter(band.drift, band.mean, s=5, color=colour, alpha=0.8, linewidth=0)
                ax.plot(band.drift[-1:], band.mean[-1:], "o", color=colour, markersize=5)  # type: ignore[index]
            ax.set_xlabel("KL to the reference (nats a reply)")
            _named(ax, name, curves, colours)

        return on

    figure = panels({name: draw(name, bands) for name, bands in curves.items()}, wide=3.9)
    rows = [
        (name, band.label, step, kl, mean)
        for name, bands in curves.items()
        for band in bands
        for step, kl, mean in zip(band.steps, band.drift or (), band.mean, strict=True)
    ]
    caption = (
        "A point a step, mean over seeds of both; the large dot is where training ended. Runs that reach the "
        "same height further to the left paid less drift for it."
    )
    columns = ("metric", "group", "step", "kl", "mean")
    return Drawn("curves_over_kl", "training", "Over drift", caption, figure, columns, rows)


def alarms_figure(found: Alarms) -> Drawn:
    """A row a run that raised one, a mark an alarm, at its share of the run's steps."""
    rows_of = list(dict.fromkeys((one.group, one.run) for one in found.raised))
    shown = rows_of[:MOST_ROWS]
    kinds = list(dict.fromkeys(one.alarm for one in found.raised))

    def on(ax: Any) -> None:
        for place, kind in enumerate(kinds):
            mine = [one for one in found.raised if one.alarm == kind and (one.group, one.run) in shown]
            ax.scatter(
                [one.step / max(1, one.last) for one in mine],
                [shown.index((one.group, one.run)) for one in mine],
                marker=_MARKS[place % len(_MARKS)],
                color=COLOURS[place % len(COLOURS)],
                s=42,
                label=kind,
                zorder=3,
            )
        for row in range(len(shown)):
            ax.axhline(row, color=MIDDLE, linewidth=0.5, alpha=0.5)
        ax.set_yticks(range(len(shown)), [f"{group}  ({run})" for group, run in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel("share of the run's steps")
        ax.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    figure = panels({"alarms": on}, wide=9.0, high=1.2 + 0.28 * max(len(shown), len(kinds)))
    rows = [(one.group, one.run, one.alarm, one.step, one.last) for one in found.raised]
    caption = "Each mark is one episode, at the step that raised it."
    if len(rows_of) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(rows_of)} runs; the CSV has all."
    columns = ("group", "run", "alarm", "step", "last_step")
    return Drawn("alarms", "alarms", "When alarms were raised", caption, figure, columns, rows)


def _colours(curves: Mapping[str, Sequence[Band]]) -> dict[str, str]:
    """One colour a group on all panels."""
    labels = list(dict.fromkeys(band.label for bands in curves.values() for band in bands))
    return dict(zip(labels, colours_of(len(labels)), strict=True))


def _named(ax: Any, name: str, curves: Mapping[str, Sequence[Band]], colours: Mapping[str, str]) -> None:
    """The legend, once a figure, where there are few enough groups to tell apart."""
    if name == next(iter(curves)) and 1 < len(colours) <= MOST_NAMED:
        handles, labels = ax.get_legend_handles_labels()
        columns = min(3, len(labels))
        ax.figure.legend(
            handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=7
        )
