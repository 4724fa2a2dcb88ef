"""Checkpoints that are whole or absent: ``checkpoints/step-000100/``.

A checkpoint is written to a hidden sibling, each file fsynced; ``manifest.json`` with every file's size and
SHA-256 comes last; then the folder is fsynced, renamed, and its parent fsynced. Tensors lie in safetensors
files and the rest in JSON: reading one runs no code. What is damaged later (a flipped byte, a file cut short
or missing) no longer agrees with its manifest, and is found before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from align.errors import CheckpointError
from align.files import rename_whole, sync

VERSION = 1
"""Version of the layout; part of the manifest, so that another one is refused."""

_MANIFEST = "manifest.json"
_STATE = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What one holds. ``tensors``: file stem -> name -> tensor; ``state``: plain values, exact in JSON."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]
    best_step: int | None = None
    """The step whose weights are the best so far: its checkpoint is kept as long as this one is."""


def folder_of(folder: Path, step: int) -> Path:
    """Where a step's checkpoint lies in ``checkpoints/``."""
    return folder / f"step-{step:06d}"


def steps_in(folder: Path) -> list[int]:
    """Steps that have a checkpoint, whole or damaged, in order."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def write(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint, then deletes older ones.

    The newest ``keep`` stay, and those that hold the best weights of one that stays.

    Raises:
        CheckpointError: it cannot be written (a full disk); what was there before is untouched.
    """
    final = folder_of(folder, checkpoint.step)
    aside = _aside(final)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        _fill(aside, checkpoint)
        rename_whole(aside, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the checkpoint {final}: {error}. The ones before it are whole; "
            f"mend that (free some space?), then resume=true goes on from the newest."
        ) from error
    _prune(folder, keep)
    return final


def read(path: Path) -> Checkpoint:
    """One checkpoint, verified first.

    Raises:
        CheckpointError: it is damaged or missing.
    """
    problem = damage(path)
    if problem is not None:
        raise CheckpointError(f"the checkpoint {path} is damaged: {problem}")
    state = json.loads((path / _STATE).read_bytes())
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return Checkpoint(state["step"], tensors, state["state"], state["best_step"])


def newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None where there never was one.

    Leftovers of a killed save are removed. A damaged newer one (or one whose best weights are) is passed over
    with a warning, and set aside as ``step-N.damaged``.

    Raises:
        CheckpointError: there are checkpoints and none is whole; training never starts afresh in silence.
    """
    for leftover in folder.glob(".step-*.partial"):
        _remove(leftover)
    problems: dict[int, str] = {}
    for step in reversed(steps_in(folder)):
        problem = _damage_of_all_it_needs(folder, step)
        if problem is None:
            for bad, why in problems.items():
                _log.warning(
                    "the checkpoint of step %d is damaged (%s); going back to step %d", bad, why, step
                )
                _set_aside(folder_of(folder, bad))
            return read(folder_of(folder, step))
        problems[step] = problem
    if problems:
        told = "; ".join(f"step {step}: {why}" for step, why in problems.items())
        raise CheckpointError(
            f"no checkpoint in {folder} is whole ({told}). "
            f"Restore one from a copy, or start again in another run.dir."
        )
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None where every file is as its manifest says."""
    manifest = path / _MANIFEST
    if not manifest.is_file():
        return f"it has no {_MANIFEST}"
    try:
        promised = json.loads(manifest.read_bytes())
        files = dict(promised["files"])
        promises = {name: (int(file["bytes"]), str(file["sha256"])) for name, file in files.items()}
    except (ValueError, KeyError, TypeError):
        return f"its {_MANIFEST} cannot be read"
    if promised.get("version") != VERSION:
        return f"its layout has version {promised.get('version')}, this is version {VERSION}"
    there = {file.name for file in path.iterdir()} - {_MANIFEST}
    for name in sorted(there | set(promises)):
        if name not in there or name not in promises:
            return f"{name} is {'missing' if name not in there else 'not in its manifest'}"
        size, digest = promises[name]
        if (path / name).stat().st_size != size:
            return f"{name} has {(path / name).stat().st_size} bytes instead of {size}"
        if _sha256(path / name) != digest:
            return f"{name} has changed (its SHA-256 differs)"
    return None


def _damage_of_all_it_needs(folder: Path, step: int) -> str | None:
    problem = damage(folder_of(folder, step))
    if problem is not None:
        return problem
    best = _best_step(folder_of(folder, step))
    if best in (None, step):
        return None
    problem = damage(folder_of(folder, best)) if best in steps_in(folder) else "it is missing"
    return problem and f"the best weights, of step {best}: {problem}"


def _fill(aside: Path, checkpoint: Checkpoint) -> None:
    aside.mkdir()
    for stem, tensors in checkpoint.tensors.items():
        flat = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(flat, aside / f"{stem}.safetensors")
    state = {"step": checkpoint.step, "best_step": checkpoint.best_step, "state": checkpoint.state}
    (aside / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    files = {}
    for file in sorted(aside.iterdir()):
        sync(file)
        files[file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    manifest = aside / _MANIFEST
    manifest.write_text(json.dumps({"version": VERSION, "files": files}, indent=1), encoding="utf-8")
    sync(manifest)
    sync(aside)


def _prune(folder: Path, keep: int) -> None:
    steps = steps_in(folder)
    kept = set(steps[-keep:])
    kept |= {best for step in kept if (best := _best_step(folder_of(folder, step))) is not None}
    for step in steps:
        if step not in kept:
            _remove(folder_of(folder, step))


def _best_step(path: Path) -> int | None:
    try:
        best = json.loads((path / _STATE).read_bytes())["best_step"]
    except (OSError, ValueError, KeyError):
        return None  # a damaged old one, which only a resume would look at
    return None if best is None else int(best)


def _remove(path: Path) -> None:
    # Renamed first: a kill in the middle of a deletion leaves a leftover, not half a checkpoint.
    if path.exists():
        aside = path if path.name.startswith(".") else _aside(path)
        if aside != path:
            path.rename(aside)
        shutil.rmtree(aside)


def _set_aside(path: Path) -> None:
    damaged = path.with_name(f"{path.name}.damaged")
    if damaged.exists():
        shutil.rmtree(damaged)
    rename_whole(path, damaged)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
