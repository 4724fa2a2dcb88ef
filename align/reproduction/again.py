"""From a run.json to the same run in another folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import ConfigError, DataError
from align.run import Run, read_record
from align.typed import typed_run


@dataclass(frozen=True)
class Part:
    """A run, or a pipeline's step, as it was and as it is done again."""

    name: str
    """The step's; empty for the run itself."""
    was: Path
    """Directory of the original."""
    now: Path
    """Directory of the repetition."""


def record_of(directory: Path) -> dict[str, Any]:
    """The run.json of a run that can be done again.

    Raises:
        DataError: there is none, or the run was not completed.
    """
    record = read_record(directory)
    if record is None:
        raise DataError(f"original={directory}: no run there (its directory holds run.json)")
    if record.get("state") != "completed":
        raise DataError(
            f"original={directory}: its state is {record.get('state')}, so there are no final numbers to "
            f"compare with; the same command with resume=true goes on with it"
        )
    return record


def run_again(record: Mapping[str, Any], directory: Path, cache: str) -> Run:
    """The same work in another folder; paths into the original's own folder lead into the new one.

    It is not tracked and not handed in to a cluster, and shares the cache of who asks.

    Raises:
        ConfigError: this version of the code reads the settings otherwise.
    """
    values: dict[str, Any] = _moved(record["config"], str(record["config"]["run"]["dir"]), str(directory))
    steps = {name: _own(one, cache) for name, one in values.get("steps", {}).items()}
    values = _own(values, cache)
    if steps:
        values["steps"] = steps
    command = [str(word) for word in record.get("command", [])]
    try:
        runs = [
            typed_run(steps[name], _text(steps[name]), command, is_step=True)
            for name in values.get("order", [])
        ]
        return typed_run(values, _text(values), command, runs)
    except ConfigError as error:
        raise ConfigError(f"the settings in run.json are not those of this code: {error}") from error


def parts(record: Mapping[str, Any], was: Path, now: Path) -> list[Part]:
    """The run and, of a pipeline, its steps."""
    names = record["config"].get("order", []) if record.get("stage") == "pipeline" else []
    return [Part("", was, now), *(Part(name, was / name, now / name) for name in names)]


def _own(values: Mapping[str, Any], cache: str) -> dict[str, Any]:
    launch = {**values.get("launch", {}), "submit": None, "cluster": {}}
    run = {**values["run"], "cache": cache}
    return {**values, "run": run, "resume": False, "tracking": {"name": "none"}, "launch": launch}


def _moved(value: Any, was: str, now: str) -> Any:
    """Values with every path that is, or lies in, one folder led into another."""
    if isinstance(value, dict):
        return {key: _moved(one, was, now) for key, one in value.items()}
    if isinstance(value, list):
        return [_moved(one, was, now) for one in value]
    if isinstance(value, str) and (value == was or value.startswith(f"{was}/")):
        return now + value.removeprefix(was)
    return value


def _text(values: Mapping[str, Any]) -> str:
    """The settings for config.yaml; JSON is YAML."""
    return json.dumps(values, indent=2) + "\n"
