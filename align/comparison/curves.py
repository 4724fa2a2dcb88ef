"""Training curves of groups: the mean over seeds and the band that seeds spread over, by step or by drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from align.comparison.found import Found
from align.comparison.groups import Group
from align.report.figures import HOUSEKEEPING
from align.report.files import read_metrics

MOST_POINTS = 200
"""Lines of a run that are drawn: every k-th up to the last, and those with a validation value or an alarm."""
MOST_DRAWN = 40_000
"""Points of one figure, at most: beyond, a page of many groups is too large to open."""
MOST_METRICS = 9
FIRST = (
    "loss",
    "validation",
    "rollout/score",
    "rollout/kl",
    "kl",
    "rewards/accuracy",
    "accuracy",
    "rewards/margin",
    "rollout/entropy",
    "rollout/length",
    "value/explained_variance",
    "policy/clip_fraction",
    "logps/chosen",
    "logps/rejected",
    "grad_norm",
)
"""What is drawn before all else, in this order."""
DRIFTS = ("rollout/kl", "kl")
"""Metrics that say how far the policy has moved, in nats a reply."""

Series = Mapping[str, list[tuple[int, float]]]
"""Metric -> (step, value) of one run; metrics of pipelines are named by their step (``dpo: loss``)."""


@dataclass(frozen=True)
class Band:
    """One metric of one group over optimiser steps (n,)."""

    label: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...] | None
    """Standard deviation between seeds at each step; None for one run."""
    drift: tuple[float, ...] | None = None
    """KL at each step, mean over seeds, where that is what the metric is drawn over."""


def series_of(groups: Sequence[Group]) -> dict[str, list[Series]]:
    """Group's label -> what its runs wrote while they trained, one a run.

    Raises:
        DataError: a damaged metrics.jsonl.
    """
    return {group.label: [_series(run) for run in group.runs] for group in groups}


def training_curves(series: Mapping[str, Sequence[Series]]) -> dict[str, list[Band]]:
    """metric -> a band a group, over the steps that all runs of a group have."""
    names = {name for runs in series.values() for run in runs for name in run if not _is_alarm(name)}
    found: dict[str, list[Band]] = {}
    for name in sorted(names, key=_rank)[:MOST_METRICS]:
        found[name] = [band for label, runs in series.items() if (band := _band(label, runs, name))]
    return _thinned({name: bands for name, bands in found.items() if bands})


def curves_over_drift(series: Mapping[str, Sequence[Series]]) -> dict[str, list[Band]]:
    """The same with the KL of each step: what a nat bought. Empty where no run wrote its KL."""
    found: dict[str, list[Band]] = {}
    for label, runs in series.items():
        names = set.intersection(*(set(run) for run in runs)) if runs else set()
        for drift in sorted((one for one in names if _key(one) in DRIFTS), key=_rank):
            prefix = drift.removesuffix(_key(drift))
            for name in (one for one in names if one.startswith(prefix) and one != drift):
                if _is_alarm(name) or _key(name) not in FIRST or _key(name) in (*DRIFTS, "loss"):
                    continue
                band = _band(label, runs, name, drift)
                if band is not None:
                    found.setdefault(name, []).append(band)
    ordered = sorted(found, key=_rank)[:MOST_METRICS]
    return _thinned({name: found[name] for name in ordered})


def _series(run: Found) -> Series:
    found: dict[str, list[tuple[int, float]]] = {}
    for prefix, path in metrics_of(run).items():
        for line in read_metrics(path, MOST_POINTS):
            for key, value in line.items():
                if key not in HOUSEKEEPING and isinstance(value, int | float):
                    found.setdefault(prefix + key, []).append((line["step"], float(value)))
    return found


def metrics_of(run: Found) -> dict[str, Path]:
    """Where the run's training is written: its own, its steps', or that of the model it looked at."""
    model = run.record.get("config", {}).get("model", {}).get("path")
    steps = run.record.get("config", {}).get("order") or []
    places = {"": run.directory, **{f"{step}: ": run.directory / step for step in steps}}
    found = {prefix: place / "metrics.jsonl" for prefix, place in places.items()}
    found = {prefix: path for prefix, path in found.items() if path.is_file()}
    if not found and model and (Path(model) / "metrics.jsonl").is_file():
        return {"": Path(model) / "metrics.jsonl"}
    return found


def _band(label: str, runs: Sequence[Series], name: str, drift: str | None = None) -> Band | None:
    """Mean and spread at the steps that all runs have; None where there is no such step."""
    points = [dict(run.get(name, [])) for run in runs]
    places = [dict(run.get(drift, [])) for run in runs] if drift else []
    steps = sorted(set.intersection(*(set(one) for one in [*points, *places])))
    if not steps:
        return None
    values = np.array([[one[step] for step in steps] for one in points])
    spread = tuple(values.std(0, ddof=1).tolist()) if len(values) > 1 else None
    along = None
    if drift:
        along = tuple(np.array([[one[step] for step in steps] for one in places]).mean(0).tolist())
    return Band(label, tuple(steps), tuple(values.mean(0).tolist()), spread, along)


def _thinned(curves: dict[str, list[Band]]) -> dict[str, list[Band]]:
    """Every k-th point up to the last, so that all fit on a page."""
    total = sum(len(band.steps) for bands in curves.values() for band in bands)
    every = -(-total // MOST_DRAWN)
    if every < 2:
        return curves

    def kept(band: Band) -> Band:
        last = len(band.steps) - 1
        at = [place for place in range(len(band.steps)) if (last - place) % every == 0]
        return Band(
            band.label,
            tuple(band.steps[place] for place in at),
            tuple(band.mean[place] for place in at),
            None if band.spread is None else tuple(band.spread[place] for place in at),
            None if band.drift is None else tuple(band.drift[place] for place in at),
        )

    return {name: [kept(band) for band in bands] for name, bands in curves.items()}


def _is_alarm(name: str) -> bool:
    return _key(name).startswith("alarms/")


def _key(name: str) -> str:
    """A metric as its own step knows it: ``dpo: loss`` -> ``loss``."""
    return name.split(": ")[-1]


def _rank(name: str) -> tuple[int, str]:
    key = _key(name)
    return (FIRST.index(key) if key in FIRST else len(FIRST), name)
