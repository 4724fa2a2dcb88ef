"""Figures (PNG) from what runs left on disk. Drawn without pyplot: no window, no global state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from align.errors import DataError
from align.files import written_aside
from align.report import panels
from align.report.files import read_metrics, read_results
from align.tracking.metrics import CLOCK_KEYS
from align.types import Result

T = TypeVar("T")

PANEL_INCHES = (3.4, 2.7)
DOTS_PER_INCH = 150
MOST_COLUMNS = 3

HOUSEKEEPING = CLOCK_KEYS | {"step", "epoch", "learning_rate", "tokens", "fill_rate"}
"""Keys of ``metrics.jsonl`` that say how the run went, not what was learnt; drawn only when asked for."""


def training_figure(run_dir: Path, path: Path, metrics: Sequence[str] | None = None) -> Figure:
    """Curves of one run: a panel a metric over steps.

    ``metrics`` names what to draw; None draws every number of ``metrics.jsonl`` but housekeeping, the
    loss first. Returns the figure that was written to ``path``.

    Raises:
        DataError: metrics.jsonl is missing or damaged, or holds none of the metrics.
    """
    lines = read_metrics(run_dir / "metrics.jsonl")
    names = _learnt(lines) if metrics is None else metrics
    curves = [panels.curves(lines, {name: name}, title=name) for name in names]
    return _save(curves, path, drawn_from=[run_dir])


def reward_figure(run_dir: Path, path: Path) -> Figure:
    """One reward model: loss and accuracy over steps, and where it ended beside the Bayes limit.

    The ``validation`` value of ``stage=reward`` is its accuracy, and shares that panel.

    Raises:
        DataError: a damaged file, or neither a curve nor an accuracy to draw.
    """
    lines = _if_there(run_dir / "metrics.jsonl", read_metrics)
    results = _if_there(run_dir / "results.json", read_results)
    loss = panels.curves(lines, {"training": "loss"}, title="reward model: loss")
    series = {"training": "accuracy", "validation": "validation"}
    right = panels.curves(lines, series, title="reward model: accuracy in training")
    return _save([loss, right, panels.accuracy(results)], path, drawn_from=[run_dir])


def pipeline_figure(
    run_dirs: Mapping[str, Path],
    results: Sequence[Result],
    samples: Sequence[Mapping[str, Any]],
    path: Path,
) -> Figure:
    """A whole pipeline on one page; what there is no data for is left out.

    First a curve a step, in the order of ``run_dirs`` (step name -> its directory): the score of the rollouts
    where there are any, the loss elsewhere. Then the reward model's accuracy beside the Bayes limit, the
    scores of each policy's replies (``samples``, rows of ``samples.jsonl``), and the win rates, with 95 %
    intervals.

    Raises:
        DataError: a damaged file, or nothing at all to draw.
    """
    drawn: list[panels.Panel | None] = []
    for step, run_dir in run_dirs.items():
        lines = _if_there(run_dir / "metrics.jsonl", read_metrics)
        rolls = any("rollout/score" in line for line in lines)
        key, title = ("rollout/score", "score of its replies") if rolls else ("loss", "loss")
        drawn.append(panels.curves(lines, {"training": key}, title=f"{step}: {title}"))
    drawn += [panels.accuracy(results), panels.scores(samples, results), panels.wins(results)]
    return _save(drawn, path, drawn_from=list(run_dirs.values()))


def _learnt(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names to draw, the loss first."""
    names = {key for line in lines for key in line} - HOUSEKEEPING
    return sorted(names, key=lambda name: (name != "loss", name))


def _if_there(path: Path, read: Callable[[Path], list[T]]) -> list[T]:
    return read(path) if path.exists() else []


def _save(drawn: Sequence[panels.Panel | None], path: Path, drawn_from: Sequence[Path]) -> Figure:
    """Lays the panels out in a grid and writes the PNG, whole or not at all."""
    there = [panel for panel in drawn if panel is not None]
    if not there:
        raise DataError(f"{', '.join(map(str, drawn_from))}: nothing to draw (no metrics, no results)")
    columns = min(len(there), MOST_COLUMNS)
    rows = math.ceil(len(there) / columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    for index, panel in enumerate(there):
        panel(figure.add_subplot(rows, columns, index + 1))
    with written_aside(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})  # the same data, the same bytes
    return figure
