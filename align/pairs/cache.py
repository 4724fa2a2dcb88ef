"""Prepared data kept for later runs: one folder a key, whole or absent, that may be deleted at any time.

A run has the same files in its own directory: as further names of the kept ones where the file system
allows links, so that they cost no space, else as copies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from align.files import rename_whole, sha256_of, share, sync, write_json
from align.pairs.split import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {f"{split}.arrow": f"data/{split}.arrow" for split in SPLITS} | {
    "data_report.json": "data_report.json"
}
"""Name of a kept file -> its place in a run's directory."""

MANIFEST = "manifest.json"
_ABANDONED_AFTER = 24 * 3600
"""Seconds after which an unfinished entry is taken for that of a killed process."""


@dataclass(frozen=True)
class Outcome:
    """What preparing says beside its files."""

    fingerprint: str
    """SHA-256 over ids and texts, split by split."""
    summary: tuple[str, ...]
    """A few lines for a person."""
    lists_rows: bool
    """Whether ``data_report.json`` lists rows that were left out or cut."""


class _DamagedError(Exception):
    """An entry that is not what its manifest says."""


def fetch(entry: Path, directory: Path, say: Callable[[str], None]) -> Outcome | None:
    """Puts an entry's files into a run's directory; None without a whole entry (a damaged one is deleted)."""
    if not os.path.isdir(entry):  # which is false, too, where a folder above may not be looked into
        return None
    try:
        outcome = _verified(entry)
        for name, place in FILES.items():
            share(entry / name, directory / place)
    except (_DamagedError, OSError) as error:
        if not os.path.isdir(entry):  # deleted while it was read, which anybody may do
            return None
        if isinstance(error, OSError):
            say(f"note: the tokens kept in {entry} cannot be used ({error.strerror}): they are made anew")
            return None
        say(f"note: the tokens kept in {entry} are damaged ({error}): they are made anew")
        _discard(entry)
        return None
    return outcome


def keep(entry: Path, directory: Path, outcome: Outcome, say: Callable[[str], None]) -> None:
    """Makes an entry of the files in a run's directory; of several processes at it, the first one does.

    A cache that cannot be written to is said, and stops nothing.
    """
    aside = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}.part")
    try:
        aside.mkdir(parents=True)
        for name, place in FILES.items():
            share(directory / place, aside / name)
        said = {**asdict(outcome), "files": {name: sha256_of(aside / name) for name in FILES}}
        write_json(aside / MANIFEST, {"sha256": _digest(said), "entry": said})
        sync(aside)
        rename_whole(aside, entry)
        _remove_abandoned(entry.parent)
    except OSError as error:
        if not os.path.isdir(entry):
            say(f"note: the tokens are not kept for later runs: {error.filename}: {error.strerror}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _verified(entry: Path) -> Outcome:
    """What the manifest says, held against every byte of the files."""
    try:
        manifest = json.loads((entry / MANIFEST).read_bytes())
        said = manifest["entry"]
        if manifest["sha256"] != _digest(said):
            raise _DamagedError(f"{MANIFEST} was changed")
        for name in FILES:
            if sha256_of(entry / name) != said["files"][name]:
                raise _DamagedError(f"{name} was cut or changed")
    except FileNotFoundError as error:
        raise _DamagedError(f"{error.filename} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{MANIFEST} is none") from error
    return Outcome(said["fingerprint"], tuple(said["summary"]), said["lists_rows"])


def _digest(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _discard(entry: Path) -> None:
    """At once: another process sees it whole or not at all."""
    aside = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}.part")
    try:
        rename_whole(entry, aside)
    except OSError:  # gone already, or not ours to delete: then it stays, and is told of again
        return
    shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Deletes what killed processes left half written."""
    for aside in folder.glob(".*.part"):
        if aside.stat().st_mtime < time.time() - _ABANDONED_AFTER:
            shutil.rmtree(aside, ignore_errors=True)
