"""Run directories as they lie on disk: which there are, what they were told, what they found."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align.errors import DataError
from align.report.files import read_results
from align.report.names import measure, reference_of, subject
from align.run import flat, read_record
from align.types import Result

NOT_PART_OF_THE_WORK = frozenset({"run", "resume", "tracking", "alarms", "launch", "deepspeed"})
"""Sections of a config that change no number."""

WITHIN = " > "
"""Between the option that names a run (``model.path``) and an option of that run."""

_DEEPEST = 8  # runs from which a run's model may descend, one from another


@dataclass(frozen=True)
class Found:
    """One finished run."""

    directory: Path
    name: str
    """Its directory, less what all compared runs share."""
    stage: str
    settings: Mapping[str, Any]
    """Dotted options; one that names another run is replaced by that run's own, behind ``WITHIN``."""
    seeds: Mapping[str, Any]
    """The same of seeds: ``seed``, ``steps.dpo.seed``, ``model.path > seed``."""
    data: str | None
    """Hash of what it was evaluated on; None where run.json has none."""
    results: tuple[Result, ...]
    record: Mapping[str, Any]


def run_directories(words: Iterable[str]) -> list[Path]:
    """Directories of runs, in order: each word is one, a pattern of some, or a folder (a sweep) of them.

    Raises:
        DataError: a word that leads to no run.
    """
    found: dict[Path, None] = {}
    for word in words:
        places = [Path(place) for place in sorted(glob.glob(word, recursive=True))] or [Path(word)]
        here = [place for place in places if (place / "run.json").is_file()]
        within = [
            run.parent for place in places if place.is_dir() for run in sorted(place.glob("*/run.json"))
        ]
        if not (here or within):
            raise DataError(
                f"runs={word}: no run directory there (one holds run.json); give directories, a pattern in "
                f"quotes (runs='sweep/*'), or the folder of a sweep"
            )
        found.update(dict.fromkeys(here or within))
    return list(found)


def read_runs(directories: Sequence[Path], stage: str | None = None) -> tuple[list[Found], dict[str, str]]:
    """The finished runs with results, and why each of the others is left out (directory -> reason).

    ``stage`` leaves out the runs of others.

    Raises:
        DataError: none is left, runs of several stages, or runs whose evaluation data differ.
    """
    names = short_names(directories)
    runs, left_out = [], {}
    for directory, name in zip(directories, names, strict=True):
        record = read_record(directory) or {}
        if record.get("state") != "completed":
            left_out[str(directory)] = f"its state is {record.get('state', 'unknown')}"
        elif stage is not None and record.get("stage") != stage:
            left_out[str(directory)] = f"it is a run of stage={record.get('stage')}"
        elif not (directory / "results.json").is_file():
            left_out[str(directory)] = f"stage={record.get('stage')} left no results.json"
        else:
            runs.append(_found(directory, name, record))
    if not runs:
        lines = "".join(f"\n  {place}: {reason}" for place, reason in left_out.items())
        raise DataError(f"no finished run to compare:{lines}")
    _refuse_several(
        runs,
        "stages",
        {run.name: f"stage={run.stage}" for run in runs},
        "Numbers of different stages do not answer one question: give the runs of one line, or "
        f"compare.stage={runs[0].stage}.",
    )
    if len({run.data for run in runs}) > 1:
        _refuse_several(
            runs,
            "evaluation data",
            {run.name: _said_of_data(run, runs) for run in runs},
            "Numbers measured on different prompts or pairs cannot be held against each other: give the runs "
            "of one line, or evaluate the others again with the same dataset options.",
        )
    return _named_alike(runs), left_out


def short_names(directories: Sequence[Path]) -> list[str]:
    """What tells directories apart: their paths less the folders at the front that all share."""
    parts = [directory.resolve().parts for directory in directories]
    shared = 0
    while all(len(one) > shared + 1 and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    return ["/".join(one[shared:]) for one in parts]


def _found(directory: Path, name: str, record: Mapping[str, Any]) -> Found:
    everything = settings_of(directory, record)
    seeds = {key: value for key, value in everything.items() if _is_seed(key)}
    return Found(
        directory=directory,
        name=name,
        stage=str(record.get("stage")),
        settings={key: value for key, value in everything.items() if key not in seeds},
        seeds=seeds,
        data=_data(directory, record),
        results=tuple(read_results(directory / "results.json")),
        record=record,
    )


def settings_of(directory: Path, record: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """A run's options, with those of the runs that its paths name; paths into the run itself are relative."""
    own = str(record.get("config", {}).get("run", {}).get("dir", directory))
    kept: dict[str, Any] = {}
    for key, value in flat(record.get("config", {})).items():
        if NOT_PART_OF_THE_WORK & set(_bare(key).split(".")[:1]):
            continue
        if not isinstance(value, str) or not key.endswith("path"):
            kept[key] = value
        elif value.startswith(f"{own}/"):
            kept[key] = value.removeprefix(f"{own}/")
        else:
            origin = read_record(Path(value)) if depth < _DEEPEST else None
            inner = settings_of(Path(value), origin, depth + 1) if origin else None
            kept |= {f"{key}{WITHIN}{name}": one for name, one in inner.items()} if inner else {key: value}
    return kept


def _bare(key: str) -> str:
    """An option as the step or run itself knows it: ``steps.dpo.loss.beta`` -> ``loss.beta``."""
    last = key.split(WITHIN)[-1]
    return last.split(".", maxsplit=2)[-1] if last.startswith("steps.") else last


def _is_seed(key: str) -> bool:
    return _bare(key) == "seed"


def _data(directory: Path, record: Mapping[str, Any]) -> str | None:
    """What the run's numbers were measured on; a pipeline's are those of its evaluations, or of all steps."""
    order = record.get("config", {}).get("order")
    if order is None:
        found: str | None = record.get("inputs", {}).get("data", {}).get("sha256")
        return found
    steps = [read_record(directory / name) or {} for name in order]
    evaluations = [step for step in steps if step.get("stage") == "evaluate"] or steps
    hashes = {step.get("inputs", {}).get("data", {}).get("sha256") for step in evaluations} - {None}
    return "+".join(sorted(hashes)) or None


def _said_of_data(run: Found, runs: Sequence[Found]) -> str:
    """Its hash, and the options of the data in which the runs differ."""
    asked = ("dataset.", "evaluation.")
    keys = dict.fromkeys(key for one in runs for key in one.settings if _bare(key).startswith(asked))
    differ = [
        key for key in keys if WITHIN not in key and len({str(one.settings.get(key)) for one in runs}) > 1
    ]
    options = "".join(f", {key}={run.settings.get(key)}" for key in differ[:4])
    return f"{run.data[:12] if run.data else 'not recorded'}{options}"


def _refuse_several(runs: Sequence[Found], what: str, values: Mapping[str, str], advice: str) -> None:
    if len(set(values.values())) < 2:
        return
    lines = [
        f"\n  {value}: {', '.join(name for name, one in values.items() if one == value)}"
        for value in dict.fromkeys(values.values())
    ]
    raise DataError(
        f"{len(runs)} runs differ in their {what}, and are not compared:{''.join(lines)}\n{advice}"
    )


def _named_alike(runs: list[Found]) -> list[Found]:
    """Evaluations of policies from several stages call them ``policy``, so that their metrics meet."""
    labels = {tuple(policies_of(run.results)) for run in runs}
    if runs[0].stage != "evaluate" or len(labels) == 1 or any(len(one) != 1 for one in labels):
        return runs
    renamed = []
    for run in runs:
        names = {policies_of(run.results)[0]: "policy", reference_of(run.results): "reference"}
        results = [
            replace(one, metric=f"{names.get(subject(one), subject(one))}/{measure(one)}")
            for one in run.results
        ]
        renamed.append(replace(run, results=tuple(results)))
    return renamed


def policies_of(results: Sequence[Result]) -> list[str]:
    """The policies that were set against a reference, in order."""
    return list(dict.fromkeys(subject(one) for one in results if measure(one).endswith(("_gain", "kl"))))
