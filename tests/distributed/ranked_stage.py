"""A stage for tests of ranks: each takes a few steps together, and one of them does what the test says."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from align.distributed.pulse import mark
from align.distributed.world import gathered, world
from align.errors import NonFiniteError
from align.training.signals import sigterm_noted

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["RankedStage"]


@dataclass(frozen=True)
class WorkSettings:
    """What happens, where and when."""

    what: str = "nothing"
    """A function of this module, without its underscore."""
    rank: int = 1
    """The rank that does it."""
    step: int = 2
    """The step before which it does it."""
    steps: int = 4
    """Steps, in each of which the ranks wait for each other."""
    pause: float = 0.05
    """Seconds of a step."""


@dataclass(frozen=True)
class RankedStage:
    """``stage=distributed.ranked_stage``."""

    many_ranks: ClassVar[bool] = True
    work: WorkSettings = field(default_factory=WorkSettings)

    def execute(self, run: Run) -> None:
        """Each rank writes what it is to ``rank-N.txt``; rank 0 a line a step to ``steps.txt``."""
        work, this = self.work, world()
        cores = os.environ.get("OMP_NUM_THREADS")
        (run.directory.parent / f"rank-{this.rank}.txt").write_text(f"{os.getpid()} {this.size} {cores}")
        with sigterm_noted() as terminated:
            for step in range(1, work.steps + 1):
                mark(f"step {step} of {work.steps}")
                if (this.rank, step) == (work.rank, work.step):
                    globals()[f"_{work.what}"]()
                time.sleep(work.pause)
                stop = any(gathered(terminated()))
                if this.leads:
                    with (run.directory.parent / "steps.txt").open("a") as file:
                        file.write(f"{step}\n")
                if stop:
                    from align.errors import Terminated

                    raise Terminated(f"SIGTERM: step {step} is saved")


def _nothing() -> None:
    pass


def _raise() -> None:
    raise ZeroDivisionError("the test divides by nothing")


def _refuse() -> None:
    raise NonFiniteError("the loss is NaN at this step")


def _leave() -> None:
    sys.exit(0)


def _vanish() -> None:
    os._exit(0)


def _die() -> None:
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _spoil() -> None:
    """Its libraries will not bear to be taken apart at the end."""
    import ctypes

    c = ctypes.CDLL(None)
    c.__cxa_atexit(c.abort, None, None)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    # set going to tell its stack, it may run on before another thread has written it down
    time.sleep(10_000)


def _sleep() -> None:
    time.sleep(10_000)


def _spin() -> None:
    while True:
        sum(range(100))


def _compute() -> None:
    """Longer than a hang may last, and no hang: a product of matrices moves nothing that Python sees."""
    import torch

    until = time.monotonic() + 15
    big = torch.ones(1500, 1500)
    while time.monotonic() < until:
        big = torch.linalg.matrix_exp(big * 1e-6)


def _hold() -> None:
    """As long, in a call that lets no other thread run: no sign of life can be given."""
    until = time.monotonic() + 15
    count = 10_000_000
    while time.monotonic() < until:
        began = time.monotonic()
        sum(range(count))
        count = int(count * 14 / (time.monotonic() - began))


def _fork() -> None:
    """A child that outlives its parent unless somebody ends it; then the parent dies."""
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10000)"])
    Path(os.environ["CHILD_FILE"]).write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)
