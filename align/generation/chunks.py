"""Long work written down as it goes: chunk by chunk, durably, each item once.

What a chunk holds follows from the seed and from where it begins, so that a run that was stopped anywhere
goes on to the same bytes as one that nobody stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from align.distributed.world import led, world
from align.files import write_whole

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_chunks(
    path: Path,
    items: Sequence[Item],
    chunk: int,
    seed: int,
    work: Callable[[Sequence[Item], int], list[Found]],
    to_line: Callable[[Item, Found], bytes],
    from_row: Callable[[Item | None, dict[str, Any], str], Found | None],
) -> list[Found]:
    """One result an item: those that ``path`` holds already, then the others, appended as they come.

    ``work`` is given a chunk and its seed. ``from_row`` is given the item that a line should be about (None
    beyond the last), its values and its place (``file:line``); it returns None where the values are no whole
    line, and raises where they are about something else. Of several ranks all work on each chunk, and the
    first one writes.
    """

    def kept() -> list[Found]:
        found = _whole_chunks(path, items, chunk, from_row)
        # what a kill left of a chunk goes first, so that nothing stands twice
        write_whole(path, b"".join(map(to_line, items[: len(found)], found)))
        return found

    found = led(kept)
    for start in range(len(found), len(items), chunk):
        mine = items[start : start + chunk]
        results = work(mine, seed_of(seed, start))
        if world().leads:
            _append(path, b"".join(map(to_line, mine, results)))
        found += results
    return found


def _append(path: Path, lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def seed_of(seed: int, start: int) -> int:
    """The seed of the chunk that begins with item number ``start``."""
    digest = hashlib.blake2b(f"{seed} {start}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _whole_chunks(
    path: Path,
    items: Sequence[Item],
    chunk: int,
    from_row: Callable[[Item | None, dict[str, Any], str], Found | None],
) -> list[Found]:
    """The results of those chunks of a file that are whole."""
    if not path.exists():
        return []
    found: list[Found] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
        row = _row(line)
        item = items[number] if number < len(items) else None
        result = None if row is None else from_row(item, row, f"{path}:{number + 1}")
        if result is None:
            break
        found.append(result)
    return found if len(found) == len(items) else found[: len(found) // chunk * chunk]


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's values, or None where it is not whole."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
