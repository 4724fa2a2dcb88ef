"""Which rank holds the others up: judged from its signs of life, named with its stack, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from align.distributed.pulse import PERIOD, Beat, at_work, process_state, read_beat, stack_file
from align.distributed.stacks import by_thread

SHARE_OF_GRACE = 0.7
"""A rank that stood still for this share of ``launch.grace`` hangs: the rest is for ending all of them."""

ASLEEP = 4 * PERIOD
"""Seconds between two looks from which on whoever looks stood still as well (a paused container)."""

_FRAMES = 14
"""Frames of a stack that are shown, innermost first."""


@dataclass(frozen=True)
class Stuck:
    """A rank that hangs, and how that shows."""

    rank: int
    why: str


class Outside:
    """When processes were seen at work from outside: code that lets no thread run sends no sign of life."""

    def __init__(self) -> None:
        self._base: dict[int, tuple[float, float]] = {}
        self._moved: dict[int, float] = {}

    def moved(self, pid: int, now: float) -> float:
        """Seconds of the monotonic clock at which a process has last been seen to compute, or to read."""
        import psutil

        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return self._moved.get(pid, 0.0)
        used = times.user + times.system
        since, before = self._base.setdefault(pid, (now, used))
        if at_work(used - before, now - since) or process_state(pid) == "D":
            self._base[pid] = (now, used)
            self._moved[pid] = now
        return self._moved.get(pid, 0.0)

    def refreshed(self, beats: Mapping[int, Beat | None], now: float) -> dict[int, Beat | None]:
        """The signs of life, a late one brought up to when its process was seen at work."""
        return {
            rank: replace(beat, at=max(beat.at, self.moved(beat.pid, now)))
            if beat is not None and now - beat.at > 4 * PERIOD
            else beat
            for rank, beat in beats.items()
        }


class Judge:
    """Says who hangs, look by look; what was before it began, or while it stood still itself, is no hang.

    Args:
        limit: seconds that a rank may stand still.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since = self._looked = time.monotonic()
        self._outside = Outside()

    def stuck(self, beats: Mapping[int, Beat | None], now: float) -> Stuck | None:
        """The rank that hangs, if one does; ``beats`` are the newest signs of the ranks at work."""
        if now - self._looked > ASLEEP:
            self._since = now
        self._looked = now
        return stuck(self._outside.refreshed(beats, now), now, self._since, self._limit)


def stuck(beats: Mapping[int, Beat | None], now: float, since: float, limit: float) -> Stuck | None:
    """The rank that has stood still longest, if longer than ``limit`` seconds; None where all are alive.

    Args:
        beats: the newest sign of each rank that should be at work.
        now, since: seconds of the monotonic clock; what was before ``since`` is held against nobody.
    """
    found: list[tuple[float, Stuck]] = []
    for rank, beat in beats.items():
        silent = now - max(beat.at if beat else since, since)
        quiet = min(beat.quiet, now - since) if beat else 0.0
        if silent > limit:
            why = f"gave no sign of life for {silent:.0f} s (stopped, or in code that lets no thread run)"
            found.append((silent, Stuck(rank, why)))
        elif beat and not beat.waits and quiet > limit:
            why = f"did not move for {quiet:.0f} s, and waits for no other rank"
            found.append((quiet, Stuck(rank, why)))
    return max(found, key=lambda one: one[0])[1] if found else None


def where(beat: Beat | None) -> str:
    """Where a rank was at its last sign of life, in words."""
    if beat is None:
        return "had not begun"
    parts = [beat.mark, beat.place, f"waiting for {beat.waits}" if beat.waits else ""]
    return ", ".join(part for part in parts if part)


def stack_of(folder: Path, rank: int, pid: int) -> str:
    """The stack of a rank's main thread, innermost frame first; empty where it cannot be had.

    A stopped process is set going for it, and must be killed afterwards.
    """
    file = stack_file(folder, rank)
    beat = read_beat(folder, rank)
    with suppress(ProcessLookupError, FileNotFoundError):
        before = file.stat().st_size
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGCONT)
        for _ in range(20):
            time.sleep(0.05)
            if file.stat().st_size > before:
                break
        time.sleep(0.05)
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    return main_thread(text, beat.thread if beat else 0)


def main_thread(text: str, thread: int) -> str:
    """The frames of one thread out of what ``faulthandler`` wrote of all of them."""
    stacks = by_thread(text)
    lines = stacks.get(thread) or next(reversed(stacks.values()), [])
    return "\n".join(lines[:_FRAMES])


def kill(pid: int) -> None:
    """Ends a process and whatever it has started, at once."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    state = process_state(pid)
    if state or Path("/proc/self").exists():
        return state not in ("", "Z", "X")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
