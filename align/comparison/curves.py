"""Training curves of groups: the mean over seeds and the band that seeds spread over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from align.comparison.found import Found
from align.comparison.groups import Group
from align.report.figures import HOUSEKEEPING
from align.report.files import read_metrics

MOST_POINTS = 200
"""Lines of a run that are drawn: every k-th up to the last, and those with a validation value."""
MOST_METRICS = 9
FIRST = ("loss", "validation", "rollout/score", "kl", "rewards/accuracy", "accuracy", "rewards/margin")
"""What is drawn before all else, in this order."""

Series = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Band:
    """One metric of one group over optimiser steps (n,)."""

    label: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...] | None
    """Standard deviation between seeds at each step; None for one run."""


def training_curves(groups: Sequence[Group]) -> dict[str, list[Band]]:
    """metric -> a band a group; metrics of pipelines are named by their step (``dpo: loss``).

    Raises:
        DataError: a damaged metrics.jsonl.
    """
    # one run at a time: a hundred of them do not fit in memory as lines
    series = {group.label: [_series(run) for run in group.runs] for group in groups}
    names = {name for runs in series.values() for run in runs for name in run}
    chosen = sorted(names, key=_rank)[:MOST_METRICS]
    found: dict[str, list[Band]] = {name: [] for name in chosen}
    for label, runs in series.items():
        for name in chosen:
            points = [dict(run.get(name, [])) for run in runs]
            steps = sorted(set.intersection(*(set(one) for one in points)))
            if steps:
                values = np.array([[one[step] for step in steps] for one in points])
                spread = tuple(values.std(0, ddof=1).tolist()) if len(values) > 1 else None
                found[name].append(Band(label, tuple(steps), tuple(values.mean(0).tolist()), spread))
    return {name: bands for name, bands in found.items() if bands}


def _series(run: Found) -> Series:
    found: Series = {}
    for prefix, path in _metrics_of(run).items():
        for line in read_metrics(path, MOST_POINTS):
            for key, value in line.items():
                if key not in HOUSEKEEPING and isinstance(value, int | float):
                    found.setdefault(prefix + key, []).append((line["step"], float(value)))
    return found


def _metrics_of(run: Found) -> dict[str, Path]:
    """Where the run's training is written: its own, its steps', or that of the model it looked at."""
    model = run.record.get("config", {}).get("model", {}).get("path")
    steps = run.record.get("config", {}).get("order") or []
    places = {"": run.directory, **{f"{step}: ": run.directory / step for step in steps}}
    found = {prefix: place / "metrics.jsonl" for prefix, place in places.items()}
    found = {prefix: path for prefix, path in found.items() if path.is_file()}
    if not found and model and (Path(model) / "metrics.jsonl").is_file():
        return {"": Path(model) / "metrics.jsonl"}
    return found


def _rank(name: str) -> tuple[int, str]:
    key = name.split(": ")[-1]
    return (FIRST.index(key) if key in FIRST else len(FIRST), name)
