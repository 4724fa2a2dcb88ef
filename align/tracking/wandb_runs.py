"""Runs of a Weights & Biases project as run directories here, read through wandb's public API.

What a run saved as files (run.json, results.json, samples.jsonl, metrics.jsonl) is taken as it is; the rest
comes from what the tracker mirrors: config, history, summary and the table of samples. Numbers of the
summary have no interval then. Written against wandb 0.31.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.errors import DataError, ServerError
from align.files import write_json
from align.report.files import write_results, write_samples
from align.types import Result

PREFIX = "wandb:"
SAVED = ("run.json", "results.json", "samples.jsonl", "metrics.jsonl")
"""Files of a run that are taken as they are."""

_STATES = {"finished": "completed", "failed": "failed", "crashed": "failed", "killed": "terminated"}
_SECONDS_TO_WAIT = 30
_REPEATED = ("_", "against_kl/")
"""What wandb adds to a line, and what the tracker says twice so that it can be drawn over drift."""
_TABLE = re.compile(r"media/table/samples[^/]*\.table\.json")


def fetched(source: str, folder: Path, api: Any = None) -> list[Path]:
    """The runs of ``wandb:ENTITY/PROJECT`` or ``wandb:ENTITY/PROJECT/GROUP``, each in its own directory.

    ``api`` stands in for ``wandb.Api()``.

    Raises:
        DataError: the source is written otherwise, or has no runs.
        ServerError: wandb is not installed, not reached, or refuses.
    """
    parts = source.removeprefix(PREFIX).split("/", maxsplit=2)
    if len(parts) < 2 or not all(parts):
        raise DataError(f"runs={source}: takes {PREFIX}ENTITY/PROJECT or {PREFIX}ENTITY/PROJECT/GROUP")
    filters = {"group": parts[2]} if len(parts) > 2 else None
    try:
        if api is None:
            api = _api()
        runs = list(api.runs("/".join(parts[:2]), filters=filters))
        places = {run.id: _fetch(run, folder / _folder_of(run)) for run in runs}
    except (DataError, ServerError):
        raise
    except Exception as error:  # whatever wandb's client raises: no key, no network, no such project
        said = (str(error).splitlines() or [""])[0][:200]
        raise ServerError(
            f"runs={source}: wandb cannot be read ({type(error).__name__}: {said}). It takes a network and "
            f"WANDB_API_KEY; without them give run directories: each run has all its numbers there too"
        ) from error
    if not places:
        raise DataError(f"runs={source}: no runs there")
    _follow_models(list(places.values()))
    return list(places.values())


def _api() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ServerError("wandb is not installed: pip install wandb, or give run directories") from error
    return wandb.Api(timeout=_SECONDS_TO_WAIT)


def _folder_of(run: Any) -> str:
    """Its name and id: names repeat."""
    return f"{re.sub(r'[^A-Za-z0-9_=.,+-]+', '-', str(run.name)).strip('.')}-{run.id}"


def _fetch(run: Any, place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    saved = {file.name: file for file in run.files()}
    for name in SAVED:
        if name in saved:
            saved[name].download(root=str(place), replace=True).close()
    config = {key: value for key, value in dict(run.config).items() if not key.startswith("_")}
    history = [] if (place / "metrics.jsonl").is_file() else list(run.scan_history())
    if history:
        _write_metrics(place / "metrics.jsonl", history)
    if not (place / "run.json").is_file():
        write_json(place / "run.json", _record(run, config))
    if not (place / "results.json").is_file():
        results = _results(run.summary, {key for line in history for key in line})
        if results:
            write_results(place / "results.json", results)
    table = next((file for name, file in saved.items() if _TABLE.fullmatch(name)), None)
    if table is not None and not (place / "samples.jsonl").is_file():
        with table.download(root=str(place), replace=True) as file:
            write_samples(place / "samples.jsonl", _samples(json.load(file)))
    return place


def _record(run: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """As run.json: what the tracker does not mirror is absent."""
    asked = {key: config.get(key) for key in ("dataset", "evaluation")}
    # no hash of the data is mirrored: the options that choose it stand for it
    options = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return {
        "stage": config.get("stage", {}).get("name"),
        "state": _STATES.get(run.state, run.state),
        "seed": config.get("seed"),
        "config": dict(config),
        "inputs": {"data": {"path": None, "sha256": f"options {options}"}},
        "wandb": getattr(run, "url", None),
    }


def _results(summary: Mapping[str, Any], logged: set[str]) -> list[Result]:
    """Numbers that were never part of a line: those of results.json."""
    return [
        Result(name, float(value), 0, None, None, "mirrored")
        for name, value in dict(summary).items()
        if name not in logged and not name.startswith(_REPEATED) and _is_number(value)
    ]


def _write_metrics(path: Path, history: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in history:
            kept = {
                key: value
                for key, value in line.items()
                if not key.startswith(_REPEATED) and _is_number(value)
            }
            if "step" in kept:
                file.write(json.dumps({**kept, "step": int(kept["step"])}) + "\n")


def _samples(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of samples.jsonl from a table whose columns are dotted: ``replies.dpo.scores.gold``."""
    rows = []
    for values in table["data"]:
        row: dict[str, Any] = {}
        for column, value in zip(table["columns"], values, strict=True):
            *above, last = str(column).split(".")
            inner = row
            for name in above:
                inner = inner.setdefault(name, {})
            inner[last] = value
        rows.append(row)
    return rows


def _follow_models(places: Iterable[Path]) -> None:
    """Evaluations name the model's run by the directory that it had: by its own here, where it came too."""
    records = {place: json.loads((place / "run.json").read_text(encoding="utf-8")) for place in places}
    here = {
        record.get("config", {}).get("run", {}).get("dir"): str(place) for place, record in records.items()
    }
    for place, record in records.items():
        model = record.get("config", {}).get("model")
        if isinstance(model, dict) and model.get("path") in here and model["path"] is not None:
            model["path"] = here[model["path"]]
            write_json(place / "run.json", record)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
