"""Reward models on unseen pairs, from pairs.jsonl: what their margins claim, and where they are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align.comparison.groups import Group
from align.errors import DataError
from align.evaluation import trust
from align.evaluation.accuracy import accuracy
from align.evaluation.calibration import Bin, Calibration, accuracy_by, of_margins
from align.report.files import read_samples
from align.types import Result

Array = NDArray[np.float64]

PAIRS = "pairs.jsonl"
FEWEST = 20
"""Pairs below which curves in bins are noise and are not drawn."""


@dataclass(frozen=True)
class Scored:
    """The test pairs of one group's reward models, all runs one after the other (B,)."""

    label: str
    prompts: tuple[str, ...]
    margins: Array
    longer: Array
    """Tokens of the chosen reply less those of the rejected one."""
    strengths: Array | None
    """How sure the label is: what its data say of it, or how far the labeller's own chance lies from 1/2."""
    runs: int


@dataclass(frozen=True)
class Judged:
    """What is said of one group's reward models."""

    label: str
    pairs: int
    prompts: int
    runs: int
    alike: int
    """Pairs whose replies it scores the same: half right in the accuracy, no part of the calibration."""
    numbers: tuple[Result, ...]
    """Accuracy, slope, overconfidence, Brier score: those that exist."""
    calibration: Calibration
    by_chance: float
    """ECE that a calibrated model exceeds once in twenty on these pairs."""
    by_margin: tuple[Bin, ...]
    by_length: tuple[Bin, ...]
    by_strength: tuple[Bin, ...]

    def results(self) -> list[Result]:
        """Its numbers as lines of results.json: ``LABEL/pairs/slope``."""
        error = Result("reward/ece", self.calibration.ece, self.prompts, None, None, "exact")
        return [
            replace(one, metric=f"{self.label}/pairs/{one.metric.removeprefix('reward/')}")
            for one in (*self.numbers, error)
        ]


def reward_models(groups: Sequence[Group]) -> tuple[list[Judged], dict[str, str]]:
    """One entry a group of reward models, and why others have none (label -> reason).

    They are the compared runs themselves, steps of compared pipelines, or what compared policies were trained
    or scored with.
    """
    judged, missing = [], {}
    for label, places in _places(groups).items():
        try:
            judged.append(_judged(_scored(label, places)))
        except DataError as error:
            missing[label] = str(error)
    return judged, missing


def _places(groups: Sequence[Group]) -> dict[str, list[Path]]:
    """Label -> run directories that hold pairs.jsonl."""
    found: dict[str, list[Path]] = {}
    for group in groups:
        for run in group.runs:
            if (run.directory / PAIRS).is_file():
                found.setdefault(group.label, []).append(run.directory)
            for step in run.record.get("config", {}).get("order") or []:
                if (run.directory / step / PAIRS).is_file():
                    found.setdefault(f"{step}: {group.label}", []).append(run.directory / step)
    if found:
        return found
    others = dict.fromkeys(
        place for group in groups for run in group.runs for place in _scored_with(run.record)
    )
    return {f"{place.parent.name}/{place.name}": [place] for place in others}


def _scored_with(record: Any, depth: int = 8) -> Iterator[Path]:
    """Reward models that a run, or those that it descends from, were given."""
    for role, entry in record.get("inputs", {}).items():
        path = Path(entry["path"]) if entry.get("path") else None
        if role.split(".")[0] == "reward" and path is not None:
            place = path.parent if path.name == "model" else path
            if (place / PAIRS).is_file():
                yield place
        if depth and entry.get("run"):
            yield from _scored_with(entry["run"], depth - 1)


def _scored(label: str, places: Sequence[Path]) -> Scored:
    rows = [row for place in places for row in read_samples(place / PAIRS)]
    if len(rows) < FEWEST:
        raise DataError(f"{len(rows)} unseen pairs are too few to draw curves from; it takes {FEWEST}")
    strengths = [_strength(row) for row in rows]
    return Scored(
        label=label,
        prompts=tuple(row["prompt"] for row in rows),
        margins=np.array([row["margin"] for row in rows], dtype=np.float64),
        longer=np.array([row["chosen_tokens"] - row["rejected_tokens"] for row in rows], dtype=np.float64),
        strengths=None if None in strengths else np.array(strengths, dtype=np.float64),
        runs=len(places),
    )


def _strength(row: dict[str, Any]) -> float | None:
    stated, chance = row.get("stated_margin"), row.get("probability")
    if stated is not None:
        return float(stated)
    return None if chance is None else abs(float(chance) - 0.5)


def _judged(found: Scored) -> Judged:
    keys = list(found.prompts)
    margins = found.margins
    right, _, _ = accuracy(margins, np.zeros_like(margins), keys)
    numbers = [right]
    for name, measured in (
        ("slope", trust.slope),
        ("overconfidence", trust.overconfidence),
        ("brier", trust.brier_score),
    ):
        try:
            numbers.append(measured(f"reward/{name}", margins, keys))
        except DataError:  # right on every pair: no slope exists, and the table shows none
            continue
    return Judged(
        label=found.label,
        pairs=len(margins),
        prompts=len(set(keys)),
        runs=found.runs,
        alike=int((margins == 0).sum()),
        numbers=tuple(numbers),
        calibration=of_margins("reward/calibration", margins, keys),
        by_chance=trust.error_by_chance("reward/ece", margins, keys),
        by_margin=tuple(accuracy_by("reward/by_margin", margins, np.abs(margins), keys)),
        by_length=tuple(accuracy_by("reward/by_length", margins, found.longer, keys)),
        by_strength=()
        if found.strengths is None
        else tuple(accuracy_by("reward/by_strength", margins, found.strengths, keys)),
    )
