"""The parent's watch over its ranks: whoever hangs or has left early is named, and all are ended in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from align.distributed.failures import is_done
from align.distributed.pulse import PERIOD, Beat, read_beat
from align.distributed.settings import LaunchSettings
from align.distributed.watch import SHARE_OF_GRACE, Judge, is_alive, kill, stack_of, where

MERCY = 5.0
"""Seconds that ranks have to end by themselves after one has died."""


@dataclass(frozen=True)
class Hung:
    """A rank that was ended because it hung."""

    rank: int
    why: str
    where: str
    stack: str


class Watcher(threading.Thread):
    """Looks at the ranks of this node until they are gone; on leaving, nothing that they started is left."""

    def __init__(self, folder: Path, settings: LaunchSettings) -> None:
        super().__init__(name="watcher", daemon=True)
        self.hung: Hung | None = None
        """The rank that was ended because it did not move."""
        self.gone: dict[int, float] = {}
        """Ranks that were seen to be gone, and when (seconds of the monotonic clock)."""
        self.killed: set[int] = set()
        """Ranks that this watch has ended."""
        self._folder = folder
        # on several nodes the agent says which ranks are here, and each shows itself by its first beat
        self._expected = range(settings.nproc) if settings.nodes == 1 else range(0)
        self._over = threading.Event()
        self._pids: dict[int, int] = {}
        self._judge = Judge(settings.grace * SHARE_OF_GRACE)

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()
        for pid in self._pids.values():
            kill(pid)  # whatever a rank has started is in its process group

    def ranks(self) -> list[int]:
        """The ranks of this node that are known."""
        return sorted({*self._expected, *self._pids})

    def run(self) -> None:
        while not self._over.wait(PERIOD / 2):
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        beats = self._beats()
        for rank, beat in beats.items():
            if rank not in self.gone and beat is not None and not is_alive(beat.pid):
                self.gone[rank] = now
        alive = {rank: beat for rank, beat in beats.items() if rank not in self.gone}
        fell = [when for rank, when in self.gone.items() if not is_done(self._folder, rank)]
        if fell:
            if now - min(fell) > MERCY:
                self._end(alive)
            return
        found = self._judge.stuck(alive, now)
        if found is not None and self.hung is None:
            beat = alive[found.rank]
            stack = stack_of(self._folder, found.rank, beat.pid) if beat else ""
            self.hung = Hung(found.rank, found.why, where(beat), stack)
            self._end({found.rank: beat})

    def _beats(self) -> dict[int, Beat | None]:
        found: dict[int, Beat | None] = dict.fromkeys(self._expected)
        for file in self._folder.glob("beat-*.json"):
            rank = int(file.stem.removeprefix("beat-"))
            found[rank] = beat = read_beat(self._folder, rank)
            if beat is not None:
                self._pids[rank] = beat.pid
        return found

    def _end(self, beats: Mapping[int, Beat | None]) -> None:
        for rank, beat in beats.items():
            self.killed.add(rank)
            if beat is not None:
                kill(beat.pid)
