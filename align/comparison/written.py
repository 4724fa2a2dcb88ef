"""A comparison on disk: tables as CSV, figures, and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from align.comparison.drawn import Drawn, save
from align.comparison.figures import differences_figure, length_figure, matrix_figure, metric_figure
from align.comparison.figures_rewards import (
    accuracy_figure,
    calibration_figure,
    frontier_figure,
    overoptimisation_figure,
)
from align.comparison.figures_training import alarms_figure, curves_figure, drift_figure
from align.comparison.in_short import in_short, words_of
from align.comparison.lineage_figure import lineage_figure
from align.comparison.page import page
from align.comparison.whole import Comparison
from align.files import write_json, write_whole
from align.types import Result


def figures_of(found: Comparison) -> list[Drawn]:
    """Every figure that there are numbers for, in the order of the page."""
    drawn = []
    first = next(iter(found.shown()), None)
    if first is not None and len(found.groups) > 1:
        drawn.append(metric_figure(first, found.cells[first], words_of(first)))
    if found.differences:
        drawn.append(differences_figure(found.differences, str(found.by)))
    if found.tournament is not None:
        drawn.append(matrix_figure(found.tournament, str(found.reward)))
    if any(isinstance(one, Result) for one in found.controlled.values()):
        drawn.append(length_figure(found.wins, found.controlled))
    if found.frontiers:
        drawn.append(frontier_figure(found.frontiers))
        if any(one.curve is not None for one in found.frontiers):
            drawn.append(overoptimisation_figure(found.frontiers))
    if found.models:
        drawn += [calibration_figure(found.models), accuracy_figure(found.models)]
    if found.curves:
        drawn.append(curves_figure(found.curves))
    if found.drifts:
        drawn.append(drift_figure(found.drifts))
    if found.alarms.raised:
        drawn.append(alarms_figure(found.alarms))
    return [*drawn, lineage_figure(found.lineage)]


def write(found: Comparison, folder: Path) -> dict[str, Path]:
    """compare.json, metrics.csv, differences.csv, figures/ (PNG, PDF, CSV) and comparison.html."""
    drawn = figures_of(found)
    for one in drawn:
        save(one, folder / "figures")
        write_whole(folder / "figures" / f"{one.name}.csv", csv_text(one.columns, one.rows))
    write_json(folder / "compare.json", {"in_short": in_short(found), **found.plain()})
    columns = ("metric", "group", "value", "ci_low", "ci_high", "seed_sd", "n", "method")
    rows = [
        (metric, label, *_numbers(cell.result), cell.spread, cell.result.n, cell.result.method)
        for metric in found.shown()
        for label, cell in found.cells[metric].items()
    ]
    write_whole(folder / "metrics.csv", csv_text(columns, rows))
    of_pairs = (
        "ours theirs difference ci_low ci_high win_rate p p_holm p_seeds_holm mcnemar detectable "
        "seeds_detectable verdict"
    )
    pairs = [
        (
            *(one.ours, one.theirs, *_numbers(one.score), one.win_rate, one.p, one.p_holm),
            *(one.seeds_p_holm, one.mcnemar, one.detectable, one.seeds_detectable, one.verdict),
        )
        for one in found.differences
    ]
    write_whole(folder / "differences.csv", csv_text(of_pairs.split(), pairs))
    write_whole(folder / "comparison.html", page(found, drawn))
    places = {"page": "comparison.html", "everything": "compare.json", "metrics": "metrics.csv"}
    places |= {"differences": "differences.csv", "figures": "figures"}
    return {name: folder / place for name, place in places.items()}


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows under their names, floats to the last bit, nothing where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _numbers(result: Result) -> tuple[float, float | None, float | None]:
    return result.value, result.ci_low, result.ci_high
