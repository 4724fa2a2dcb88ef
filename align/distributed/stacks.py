"""Where each thread of this process is, read without touching what it runs.

Not by ``sys._current_frames``: that makes objects of frames that other threads are running in, and under
CPython 3.11 making one may collect garbage. Freeing what is collected may let another thread run (torch gives
up the interpreter's lock for a tensor), the frame is gone when its object is filled, and the process ends by
a segmentation fault. ``faulthandler`` walks the same frames in C, makes no object, and keeps the lock.
"""

from __future__ import annotations

import faulthandler
import re
import tempfile
from dataclasses import dataclass

_HEAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')


@dataclass(frozen=True)
class Frame:
    """One call of a stack."""

    file: str
    line: int
    function: str


class Stacks:
    """Takes the stacks of all threads, as often as it is asked."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - one for all the takes of this process

    def take(self) -> dict[int, tuple[Frame, ...]]:
        """The frames of each thread by its identity, innermost first; of a deep stack the inner hundred."""
        self._file.seek(0)
        self._file.truncate()
        faulthandler.dump_traceback(self._file, all_threads=True)
        self._file.seek(0)
        text = self._file.read().decode("utf-8", errors="replace")
        return {
            thread: tuple(
                Frame(found[1], int(found[2]), found[3]) for found in map(_FRAME.match, lines) if found
            )
            for thread, lines in by_thread(text).items()
        }


def by_thread(text: str) -> dict[int, list[str]]:
    """The lines that ``faulthandler`` wrote of each thread, by its identity; of several dumps the newest."""
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            found[int(head[1], 16)] = lines = []
        elif line.strip():
            lines.append(line.rstrip())
    return found
