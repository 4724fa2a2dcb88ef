"""One rank of a run that ``launch`` has started: ``python -m align.distributed.rank FOLDER``."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from align.distributed.failures import has_ended, write_done, write_failure
from align.distributed.parent import die_with_parent
from align.distributed.pulse import PERIOD, Pulse
from align.distributed.world import world

RESOLVED = "run.json"
"""File of the launch folder that holds the run as its parent has composed and checked it."""

PARENT = "ALIGN_LAUNCHER"
"""Environment variable: the process that started this rank, without which it must not live."""


def main(folder: Path) -> int:
    """Does this rank's work; returns its exit code. What it stopped at stands in ``folder``."""
    parent = int(os.environ[PARENT])
    die_with_parent(parent)
    share_cores()
    with Pulse(folder, world().rank, parent):
        return guarded(folder, lambda: _work(folder))


def _work(folder: Path) -> None:
    from align.typed import read_resolved

    read_resolved(folder / RESOLVED).execute()


def guarded(folder: Path, work: Callable[[], None]) -> int:
    """Does the work, writes down how it ended, and waits a little for the others to do the same.

    Without the wait a launcher would end ranks that are still writing down the same failure.
    """
    this = world()
    try:
        work()
    except BaseException as error:  # also SystemExit: who leaves before the work is done has failed
        failure = write_failure(folder, this.rank, error)
        _linger(folder, seconds=4)
        return failure.exit_code
    write_done(folder, this.rank)
    return 0


def end(code: int) -> NoReturn:
    """Ends the process of a command; one of several ranks without taking the interpreter apart.

    Threads of C++ libraries that still run by then abort now and then, and a run that is whole, each rank's
    work written down as done, would be told to have failed by SIGABRT. What was put off to the end is done.
    """
    if world().size == 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def share_cores() -> None:
    """Gives this rank its part of the cores, before torch counts them; what the user has set stays."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks)))


def ranks_here() -> range:
    """The ranks on this machine."""
    count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    first = world().rank - world().local_rank
    return range(first, first + count)


def _linger(folder: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not all(has_ended(folder, rank) for rank in ranks_here()):
        time.sleep(PERIOD / 5)


if __name__ == "__main__":
    end(main(Path(sys.argv[1])))
