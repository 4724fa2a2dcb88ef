"""A rank that the user's own launcher has started: ``torchrun -m align``, ``accelerate launch``, ``srun``.

There is no parent of ours to watch the ranks, so those of one machine watch each other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from align.distributed.failures import culprit, has_ended, is_done, read_failure
from align.distributed.parent import die_with_parent
from align.distributed.pulse import PERIOD, Pulse, beat_file, read_beat
from align.distributed.rank import guarded, ranks_here, share_cores
from align.distributed.settings import LaunchSettings
from align.distributed.slurm import adopt_srun
from align.distributed.watch import SHARE_OF_GRACE, Judge, is_alive, kill, stack_of, where
from align.distributed.watcher import MERCY
from align.distributed.world import world
from align.errors import ConfigError, RankError

_ended: list[int] = []
"""Exit codes of the commands that this process has done as a rank."""


def is_rank(words: Sequence[str]) -> bool:
    """Whether a launcher has started this process as one of several; ``srun``'s words become torch's.

    Where the words themselves say how many ranks to start, a task of ``srun`` is no rank but starts them.
    """
    if not any(word.startswith(("launch.nproc=", "launch.nodes=")) for word in words):
        adopt_srun(os.environ)
    return world().size > 1


def refuse_sweep(words: Sequence[str]) -> NoReturn:
    """Refuses what each rank would start for itself.

    Raises:
        ConfigError: says how a sweep of such runs is started.
    """
    count = len(ranks_here())
    raise ConfigError(
        f"a launcher has started {world().size} ranks, and each would start its own sweep. A sweep starts "
        f"the ranks of its jobs itself: python -m align -m {' '.join(words)} launch.nproc={count}"
    )


def as_rank(work: Callable[[], None]) -> int:
    """Does a rank's work; returns its exit code. Of the ranks that stop, one tells why."""
    this, folder = world(), _common_folder()
    parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
    if parent is not None:
        die_with_parent(parent)
    share_cores()
    for file in folder.glob(f"*-{this.rank}*"):
        file.unlink(missing_ok=True)
    with Pulse(folder, this.rank, parent):
        code = guarded(folder, work)
    if code:
        _tell(folder, this.rank)
    beat_file(folder, this.rank).unlink(missing_ok=True)
    # the last one out: the others may still read what each stopped at
    if all(has_ended(folder, rank) and not beat_file(folder, rank).exists() for rank in ranks_here()):
        shutil.rmtree(folder, ignore_errors=True)
    _ended.append(code)
    return code


def _tell(folder: Path, me: int) -> None:
    """Says what the ranks of this machine stop at, where it is this one's to say; else waits for that one.

    A launcher ends the others when the first ends, and must not end the one that has something to say.
    """
    first = culprit([one for rank in ranks_here() if (one := read_failure(folder, rank))])
    if first.rank == me:
        name = "" if first.is_told and me == 0 else f"rank {me} of {world().size}: "
        print(f"align: {name}{first.message}", file=sys.stderr, flush=True)
        return
    until, beat = time.monotonic() + MERCY, read_beat(folder, first.rank)
    while beat and is_alive(beat.pid) and time.monotonic() < until:
        time.sleep(PERIOD / 5)


def watching(settings: LaunchSettings) -> AbstractContextManager[object]:
    """A watch over the other ranks of this machine, where a launcher of the user's has started them."""
    return Guard(settings) if world().size > 1 else nullcontext()


class Guard(threading.Thread):
    """A rank's watch over the others of its machine; the lowest that is alive acts.

    One that hangs is named and killed, at which its launcher ends the rest. Where one is gone and no launcher
    ends the others, this rank ends itself.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(name="guard", daemon=True)
        self._folder = _common_folder()
        self._me = world().rank
        self._over = threading.Event()
        self._since = time.monotonic()
        self._gone: dict[int, float] = {}
        self._judge = Judge(settings.grace * SHARE_OF_GRACE)

    def __enter__(self) -> Guard:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def run(self) -> None:
        while not self._over.wait(PERIOD):
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        beats = {
            rank: beat
            for rank in ranks_here()
            # one from before is another sitting's
            if rank != self._me and (beat := read_beat(self._folder, rank)) and beat.at > self._since
        }
        for rank, beat in beats.items():
            if not is_done(self._folder, rank) and not is_alive(beat.pid):
                self._gone.setdefault(rank, now)
        alive = {rank: beat for rank, beat in beats.items() if rank not in self._gone}
        for rank, when in self._gone.items():
            if now - when > 2 * MERCY:
                self._say(f"rank {rank} is gone: it was at {where(read_beat(self._folder, rank))}")
                os._exit(RankError.exit_code)
        found = self._judge.stuck(alive, now)
        if found is None or any(rank < self._me for rank in alive if rank != found.rank):
            return
        beat = alive[found.rank]
        stack = stack_of(self._folder, found.rank, beat.pid)
        self._say(
            f"rank {found.rank} of {world().size} hung: it {found.why}; it was ended\n"
            f"  it was at: {where(beat)}\n{stack}"
        )
        kill(beat.pid)
        self._gone[found.rank] = now

    def _say(self, text: str) -> None:
        print(f"align: {text}", file=sys.stderr, flush=True)


def _common_folder() -> Path:
    """A folder that the ranks of this run on this machine find, and no others."""
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")
    parts = [os.environ.get(name, "") for name in names]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        parts.append(str(os.getppid()))
    # of its own for each command: a rank that is slower to leave the last one removes what it shared there
    parts.append(str(len(_ended)))
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"align-ranks-{os.getuid()}-{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
