"""Files that survive a power cut: written aside, fsynced, renamed, and the folder fsynced."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Waits until a folder's entries (creations, renames, deletions in it) are on the disk."""
    sync_file(path)


def rename_whole(aside: Path, final: Path) -> None:
    """Gives a finished file or folder its final name, for good: the name appears at once or not at all."""
    os.rename(aside, final)
    sync_folder(final.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is either the old one or the new one, whatever happens in between."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(content)
    sync_file(aside)
    rename_whole(aside, path)
