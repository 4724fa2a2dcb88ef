"""Composed values -> a typed ``Run``. Without Hydra: a rank types what its parent has composed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align import registry
from align.config import Problems, field_types, section, unknown_key, value_of
from align.distributed.settings import LaunchSettings
from align.files import write_json
from align.overrides import groups
from align.protocols import Tracker
from align.run import Run, cache_folder, flat
from align.settings import NaturalInt, RunSettings

COMMON: dict[str, Any] = {
    "run": RunSettings,
    "seed": NaturalInt,
    "resume": bool,
    "tracking": Tracker,
    "launch": LaunchSettings,
}
"""Sections that every stage has."""

_SECTIONS = (RunSettings, LaunchSettings)

SECRET_KEY = re.compile(
    r"(^|_)(api_?key|secret|password|passwd|auth_token|access_token|hf_token|token)$", re.I
)
SECRET_VALUE = re.compile(
    r"(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f]))"
)


def typed_run(
    values: dict[str, Any],
    config_yaml: str,
    command: Sequence[str],
    steps: Sequence[Run] = (),
    is_step: bool = False,
) -> Run:
    """The run that these values ask for; ``config_yaml`` is the same as text, for the record.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    problems = Problems()
    _refuse_secrets(values, problems)
    common = {
        # a run that was recorded before there was such a section has its defaults
        key: section(hint, values.get(key, {}), key, problems)
        if hint in _SECTIONS
        else value_of(hint, values.get(key), key, problems)
        for key, hint in COMMON.items()
    }
    name = values["stage"]["name"]
    stage = _typed_stage(name, values, problems)
    problems.raise_if_any()
    return Run(
        directory=Path(common["run"].dir),
        stage=stage,
        stage_name=name,
        seed=common["seed"],
        resume=common["resume"],
        tracker=common["tracking"],
        launch=common["launch"],
        config=values,
        config_yaml=config_yaml,
        command=command,
        cache=cache_folder(common["run"].cache),
        is_step=is_step,
        steps=steps,
    )


def write_resolved(path: Path, run: Run) -> None:
    """A run's values as a file, for another process that is to do its work."""
    write_json(path, plain_values(run))


def read_resolved(path: Path) -> Run:
    """The run that ``write_resolved`` wrote down, typed anew."""
    return _from_plain(json.loads(path.read_text(encoding="utf-8")))


def plain_values(run: Run) -> dict[str, Any]:
    """A run as plain values, which travel where no class does."""
    return {
        # what a pipeline tells its steps stands in no config
        "values": {**run.config, "resume": run.resume},
        "config_yaml": run.config_yaml,
        "command": list(run.command),
        "is_step": run.is_step,
        "steps": [plain_values(step) for step in run.steps],
    }


def _from_plain(plain: Mapping[str, Any]) -> Run:
    steps = [_from_plain(step) for step in plain["steps"]]
    return typed_run(
        dict(plain["values"]), plain["config_yaml"], plain["command"], steps, is_step=plain["is_step"]
    )


def _typed_stage(name: str, values: Mapping[str, Any], problems: Problems) -> Any:
    cls = registry.component("stage", name)
    hints = field_types(cls)
    known = [*hints, *COMMON, "stage"]
    for key, value in values.items():
        if key in known or key == "steps" or value is None:
            continue
        if key in groups():
            problems.add(key, f"stage={name} does not use a {key}; leave out {key}=...")
        else:
            problems.add(key, unknown_key(key, known))
    own = {key: values[key] for key in hints if values.get(key) is not None}
    return section(cls, own, "", problems)


def _refuse_secrets(values: Mapping[str, Any], problems: Problems) -> None:
    for key, value in flat(values).items():
        if not isinstance(value, str):
            continue
        if SECRET_KEY.search(key.split(".")[-1]) or SECRET_VALUE.search(value):
            problems.add(key, "looks like a secret; those come from the environment only (WANDB_API_KEY)")
