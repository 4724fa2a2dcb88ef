"""Figures (PNG) from what runs left on disk. Drawn without pyplot: no window, no global state."""

from __future__ import annotations

import math
import textwrap
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
LEFT, RIGHT, ABOVE, BELOW = 0.68, 0.14, 0.42, 0.48
"""Inches around a curve: for the numbers beside it, for a title above a power of ten, for what is below."""
FOOT_LETTERS, FOOT_INCHES = 50, 0.16
"""Letters of a line at the foot for each column above it; how high a line is."""

HOUSEKEEPING = CLOCK_KEYS | {"step", "epoch", "learning_rate", "tokens", "fill_rate"}
"""Keys of ``metrics.jsonl`` that say how the run went, not what was learnt; drawn only when asked for."""


def training_figure(run_dir: Path, path: Path, metrics: Sequence[str] | None = None) -> Figure:
    """Curves of one run over steps: what was learnt, the loss first; chosen and rejected on one panel.

    ``metrics`` names what to draw, a panel each; None draws every number of ``metrics.jsonl`` but
    housekeeping. Numbers that never changed are written at the foot. Returns the figure that was written to
    ``path``.

    Raises:
        DataError: metrics.jsonl is missing or damaged, or holds none of the metrics.
    """
    lines = read_metrics(run_dir / "metrics.jsonl")
    names = _learnt(lines) if metrics is None else metrics
    constant = _constant(lines, names) if metrics is None else {}
    drawn = [name for name in names if name not in constant]
    shown = _on_one_panel(drawn) if metrics is None else {name: {name: name} for name in drawn}
    curves = [panels.curves(lines, series, title=title) for title, series in shown.items()]
    words = ", ".join(f"{name} {value:g}" for name, value in constant.items())
    width = FOOT_LETTERS * min(len(curves), MOST_COLUMNS)
    foot = textwrap.wrap(f"did not change: {words}", width) if words else []
    room = len(foot) * FOOT_INCHES + 0.1 * bool(foot)
    figure = _grid(curves, [run_dir], room)
    _in_even_panels(figure, room)
    if foot:
        figure.text(
            LEFT, room / 2, "\n".join(foot), transform=figure.dpi_scale_trans, fontsize=8, va="center"
        )
    return _written(figure, path)


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


def _constant(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Numbers that were logged more than once and were the same each time; none where all are."""
    logged = {
        name: [line[name] for line in lines if isinstance(line.get(name), int | float)] for name in names
    }
    found = {name: values[0] for name, values in logged.items() if len(values) > 1 and len(set(values)) == 1}
    return found if len(found) < sum(map(bool, logged.values())) else {}


def _on_one_panel(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Title -> what a curve is called -> its metric: what was chosen and what was rejected share a scale."""
    shown: dict[str, dict[str, str]] = {}
    for name in names:
        of, _, which = name.rpartition("/")
        pair = {side: f"{of}/{side}" for side in ("chosen", "rejected")}
        if of and which in pair and set(pair.values()) <= set(names):
            shown[of] = pair
        else:
            shown[name] = {name: name}
    return shown


def _if_there(path: Path, read: Callable[[Path], list[T]]) -> list[T]:
    return read(path) if path.exists() else []


def _save(drawn: Sequence[panels.Panel | None], path: Path, drawn_from: Sequence[Path]) -> Figure:
    """Panels of any kind, each as large as its labels leave it."""
    figure = _grid(drawn, drawn_from)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    return _written(figure, path)


def _grid(drawn: Sequence[panels.Panel | None], drawn_from: Sequence[Path], foot: float = 0.0) -> Figure:
    """The panels that there are, in rows of three, above as many inches of room."""
    there = [panel for panel in drawn if panel is not None]
    if not there:
        raise DataError(f"{', '.join(map(str, drawn_from))}: nothing to draw (no metrics, no results)")
    columns = min(len(there), MOST_COLUMNS)
    rows = math.ceil(len(there) / columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + foot)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    for index, panel in enumerate(there):
        panel(figure.add_subplot(rows, columns, index + 1))
    return figure


def _in_even_panels(figure: Figure, foot: float) -> None:
    """Curves need the same room each; to find out how much takes as long as drawing them."""
    wide, high = figure.get_size_inches()
    inner = (PANEL_INCHES[0] - LEFT - RIGHT, PANEL_INCHES[1] - ABOVE - BELOW)
    figure.subplots_adjust(
        left=LEFT / wide,
        right=1 - RIGHT / wide,
        top=1 - ABOVE / high,
        bottom=(BELOW + foot) / high,
        wspace=(LEFT + RIGHT) / inner[0],
        hspace=(ABOVE + BELOW) / inner[1],
    )


def _written(figure: Figure, path: Path) -> Figure:
    """As PNG, whole or not at all."""
    with written_aside(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})  # the same data, the same bytes
    return figure
