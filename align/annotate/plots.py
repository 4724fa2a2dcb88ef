"""Where the marks of the admin's figures stand, in pixels of their view boxes; templates draw them.

Geometry only: what is text stays text until a template escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from align.annotate.report import Matrix
from align.types import Result

WIDTH = 440
"""Of every figure: on a telephone 12 pixels of text are then still 9."""

_LABEL, _NOTE, _ROW = 104, 92, 22
_LEFT, _RIGHT, _TOP, _BOTTOM, _PLOT = 44, 14, 20, 26, 176
_STEPS = [60 * n for n in (1, 2, 5, 10, 15, 30)] + [3600 * n for n in (1, 2, 3, 6, 12)]
_STEPS += [86_400 * n for n in (1, 2, 7, 14, 28, 91, 364)]


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """One row of a forest: a value, and the ends of its interval where it has one."""

    label: str
    note: str
    y: float
    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forest:
    """Values with their intervals, one below the other on one axis."""

    height: float
    left: float
    right: float
    bottom: float
    ticks: tuple[Tick, ...]
    reference: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Curve:
    """A number over time, as points of a polyline, with what it should come to."""

    height: float
    left: float
    right: float
    bottom: float
    points: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    target: float | None


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram; what it counts is said where a pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """How often values fall into bins, on a logarithmic axis, with the median."""

    height: float
    left: float
    right: float
    bottom: float
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    median: float


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map; ``share`` is its depth of colour."""

    x: float
    y: float
    share: float
    text: str
    label: str


@dataclass(frozen=True)
class Heat:
    """A square table of shares."""

    height: float
    size: float
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    cells: tuple[Cell, ...]


def forest(rows: Sequence[tuple[str, Result]], low: float, high: float, reference: float) -> Forest:
    """Named results on an axis from ``low`` to ``high``; intervals are cut at its ends."""
    left, right = float(_LABEL), float(WIDTH - _NOTE)
    bottom = 8.0 + _ROW * len(rows)

    def at(value: float) -> float:
        return round(left + (min(max(value, low), high) - low) / (high - low) * (right - left), 1)

    marks = tuple(
        Mark(
            label=name,
            note=_said(one),
            y=8 + _ROW * (place + 0.5),
            x=at(one.value),
            low=None if one.ci_low is None else at(one.ci_low),
            high=None if one.ci_high is None else at(one.ci_high),
        )
        for place, (name, one) in enumerate(rows)
    )
    ticks = tuple(Tick(at(value), f"{value:g}".replace("-", "−")) for value in _nice(low, high, 5))
    return Forest(bottom + 22, left, right, bottom, ticks, at(reference), marks)


def curve(stamps: Sequence[str], wanted: int) -> Curve | None:
    """Votes so far over time (ISO 8601 stamps, oldest first); None of none."""
    if not stamps:
        return None
    seconds = np.array([datetime.fromisoformat(stamp).timestamp() for stamp in stamps])
    start, end = float(seconds[0]), max(float(seconds[-1]), float(seconds[0]) + 60)
    top = max(len(stamps), wanted)
    left, right, bottom = float(_LEFT), float(WIDTH - _RIGHT), float(_TOP + _PLOT)
    # a step up at each vote would be a point a vote: 200 places along the axis show all that can be seen
    places = np.linspace(start, end, min(200, 2 * len(stamps) + 2))
    totals = np.searchsorted(seconds, places, side="right")
    xs = left + (places - start) / (end - start) * (right - left)
    ys = bottom - totals / top * _PLOT
    return Curve(
        height=bottom + _BOTTOM,
        left=left,
        right=right,
        bottom=bottom,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True)),
        x_ticks=tuple(
            Tick(round(left + (at - start) / (end - start) * (right - left), 1), label)
            for at, label in _clock(start, end)
        ),
        y_ticks=tuple(Tick(round(bottom - n / top * _PLOT, 1), f"{n:g}") for n in _nice(0, top, 4)),
        target=round(bottom - wanted / top * _PLOT, 1) if wanted else None,
    )


def histogram(seconds: Sequence[float]) -> Histogram | None:
    """Times per item on a logarithmic axis, four bins to a doubling; None of none. Under 0.1 s is 0.1 s."""
    if not seconds:
        return None
    logs = np.log2(np.maximum(np.array(seconds), 0.1))
    first, last = math.floor(float(logs.min()) * 2) / 2, math.ceil(float(logs.max()) * 2) / 2
    last = max(last, first + 1)
    counts, edges = np.histogram(logs, bins=round((last - first) * 4), range=(first, last))
    left, right, bottom = float(_LEFT), float(WIDTH - _RIGHT), float(_TOP + _PLOT)
    top = int(counts.max())

    def at(log: float) -> float:
        return round(left + (log - first) / (last - first) * (right - left), 1)

    bars = tuple(
        Bar(
            x=at(low) + 0.5,
            y=round(bottom - count / top * _PLOT, 1),
            width=round(at(high) - at(low) - 1, 1),
            height=round(count / top * _PLOT, 1),
            label=f"{2**low:.3g} to {2**high:.3g} s: {count}",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    marks = [10.0**power * digit for power in range(-1, 6) for digit in (1, 2, 5)]
    inside = [mark for mark in marks if first <= math.log2(mark) <= last]
    shown = inside[:: math.ceil(len(inside) / 9)] if inside else []
    return Histogram(
        height=bottom + _BOTTOM,
        left=left,
        right=right,
        bottom=bottom,
        bars=bars,
        x_ticks=tuple(Tick(at(math.log2(mark)), f"{mark:g}") for mark in shown),
        y_ticks=tuple(Tick(round(bottom - n / top * _PLOT, 1), f"{n:g}") for n in _nice(0, top, 4)),
        median=at(float(np.median(logs))),
    )


def heat(matrix: Matrix) -> Heat | None:
    """Agreement of each two annotators in per cent; None of fewer than two of them."""
    count = len(matrix.names)
    if count < 2:
        return None
    size = min(34.0, (WIDTH - _LABEL - _RIGHT) / count)
    top = 62.0
    cells = tuple(
        Cell(
            x=round(_LABEL + column * size, 1),
            y=round(top + row * size, 1),
            share=round(equal / both, 3),
            text=f"{100 * equal / both:.0f}",
            label=f"{matrix.names[row]} and {matrix.names[column]}: {equal} of {both} equal",
        )
        for (row, column), (equal, both) in sorted(matrix.cells.items())
    )
    return Heat(
        height=top + count * size + 6,
        size=round(size, 2),
        rows=tuple(Tick(round(top + (k + 0.5) * size, 1), name) for k, name in enumerate(matrix.names)),
        columns=tuple(Tick(round(_LABEL + (k + 0.5) * size, 1), name) for k, name in enumerate(matrix.names)),
        cells=cells,
    )


def _said(one: Result) -> str:
    """The value and its interval, with real minus signs and none at zero."""
    value, low, high = (
        None if number is None else f"{round(number, 2) + 0.0:.2f}".replace("-", "−")
        for number in (one.value, one.ci_low, one.ci_high)
    )
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def _nice(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 10) for count in range(first, last + 1)]


def _clock(start: float, end: float) -> list[tuple[float, str]]:
    """Full hours or days (UTC) between two times in seconds since 1970, five at most, each with its text."""
    step = next((step for step in _STEPS if (end - start) / step <= 5), _STEPS[-1])
    form = "%H:%M" if step < 86_400 else "%d %b"
    marks, at = [], math.ceil(start / step) * step
    while at <= end:
        marks.append((float(at), datetime.fromtimestamp(at, UTC).strftime(form)))
        at += step
    return marks
