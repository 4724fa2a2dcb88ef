"""Files that are whole or absent: written aside, fsynced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 20


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes ``path``'s place when the block ends well; otherwise nothing changes.

    A reader that still maps the old file keeps it: the name moves, the bytes stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename_whole(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def share(source: Path, path: Path) -> None:
    """Gives ``path`` a finished file's bytes at once: the same file where links are possible, else a copy.

    Both names hold the same bytes on the disk, so neither may be written to in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
        rename_whole(aside, path)
    except OSError:  # another disk, another owner, a file system without links
        with source.open("rb") as original, written_aside(path) as copy:
            shutil.copyfileobj(original, copy, _CHUNK)
    finally:
        # rename does nothing where both are names of one file already
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes, at any depth, the files that a killed process was writing aside."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Replaces a file's content in one step; a kill leaves the old content or the new, never a part."""
    with written_aside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """``write_whole`` of indented JSON; NaN is refused, since other readers cannot parse it."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def rename_whole(aside: Path, final: Path) -> None:
    """Gives a finished file or folder its final name, for good: it appears at once or not at all."""
    os.rename(aside, final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk: a rename can be lost without."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names in order; hexadecimal."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
