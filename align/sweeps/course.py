"""``python -m align -m ...``: jobs begin, share the machine, end; nothing that one does ends another."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from align.compose_sweep import is_own, sweep_settings, swept
from align.errors import ConfigError
from align.protocols import Proposals
from align.sweeps.axes import Swept
from align.sweeps.jobs import Ended, Job, Line, Proposal
from align.sweeps.processes import Started
from align.sweeps.settings import SweepSettings
from align.sweeps.starting import Starter
from align.sweeps.stopping import Stopping, asked_to_stop
from align.sweeps.told import print_end, reason, say_begins, say_ended, validations

_LOOK = 0.1  # seconds between looks at what runs
_GRACE = 60.0  # seconds that a job has to finish its step and save, when it is asked to end


def sweep(words: Sequence[str]) -> int:
    """Runs each job into a folder of its own under ``run.dir``.

    Jobs that an earlier sitting completed are skipped, others go on from what they saved. One that fails
    stops no other; all that failed are listed at the end with their reasons.

    Returns:
        0, or 1 where a job failed; 130 or 143 where ctrl-C or SIGTERM stopped the sweep.

    Raises:
        ConfigError: the sweep's own words are wrong, or another one runs in its folder.
    """
    settings = sweep_settings([word for word in words if is_own(word)])
    axes = swept([word for word in words if not is_own(word)])
    root = Path(settings.run.dir)
    with _alone_in(root), asked_to_stop() as stopping:
        proposals = settings.sweep.begin(axes, root)
        parallel = _at_a_time(settings, axes, proposals.total)
        course = _Course(proposals, parallel, Starter(axes, root, parallel), stopping)
        course.run()
        print_end(course.ended, root, proposals, stopped=bool(stopping.asked))
    if stopping.asked:
        return 128 + stopping.asked
    return 1 if any(line.ended.state == "failed" for line in course.ended) else 0


def _at_a_time(settings: SweepSettings, axes: Swept, total: int) -> int:
    """One, or as many as were asked for; a cluster is given all that do not learn from each other."""
    all_at_once = "launch.submit=slurm" in axes.fixed and not settings.sweep.learns
    return settings.launch.parallel or (max(1, total) if all_at_once else 1)


@dataclass
class _Running:
    """A job that has begun, in one of the machine's shares."""

    job: Job
    proposal: Proposal
    started: Started
    slot: int
    began: float
    asked: bool = False
    """Whether it was asked to end."""


@dataclass
class _Course:
    """The jobs that run and those that have ended."""

    proposals: Proposals
    parallel: int
    starter: Starter
    stopping: Stopping
    ended: list[Line] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)
    count: int = 0

    def run(self) -> None:
        """To the last job, or until somebody asks to stop; whatever happens, no job is left behind."""
        try:
            while self._fill() or self.running:
                time.sleep(_LOOK)
                for one in list(self.running):
                    self._look(one)
                if self.stopping.asked:
                    self._stop_all()
                    return
        finally:
            for one in self.running:
                one.started.kill()

    def _fill(self) -> bool:
        """Begins jobs while there is a share for one; says whether any is left to run."""
        while len(self.running) < self.parallel and not self.stopping.asked:
            proposal = self.proposals.next()
            if proposal is None:
                return False
            self.count += 1
            self._begin(self.starter.job(self.count, proposal), proposal)
        return True

    def _begin(self, job: Job, proposal: Proposal) -> None:
        slot = min(set(range(self.parallel)) - {one.slot for one in self.running})
        started = self.starter.start(job, slot)
        say_begins(
            job, self.proposals.total, skipped=isinstance(started, Ended) and started.state == "skipped"
        )
        if isinstance(started, Ended):
            self._told(job, proposal, started, 0.0)
        else:
            self.running.append(_Running(job, proposal, started, slot, time.monotonic()))

    def _look(self, one: _Running) -> None:
        code = one.started.poll()
        stop = self.proposals.seen(one.proposal, validations(one.job.directory))
        if code is not None:
            self.running.remove(one)
            ended = _ended(code, one, self.starter.log(one.job))
            self._told(one.job, one.proposal, ended, time.monotonic() - one.began)
        elif stop and not one.asked:
            one.asked = True
            one.started.stop()

    def _told(self, job: Job, proposal: Proposal, ended: Ended, seconds: float) -> None:
        ended = self.proposals.told(proposal, ended, job.directory)
        self.ended.append(Line(job, ended, seconds))
        say_ended(self.ended[-1], self.proposals.total, alone=self.parallel == 1)

    def _stop_all(self) -> None:
        """Lets the running jobs save; a second signal, or the end of patience, ends them as they are."""
        for one in self.running:
            one.started.stop()
        patience = time.monotonic() + _GRACE
        while self.running and time.monotonic() < patience and self.stopping.times < 2:
            time.sleep(_LOOK)
            for one in list(self.running):
                self._look(one)
        for one in list(self.running):
            one.started.kill()
            self.running.remove(one)
            ended = Ended("terminated", "killed: it did not save in time")
            self._told(one.job, one.proposal, ended, time.monotonic() - one.began)


def _ended(code: int, one: _Running, log: Path | None) -> Ended:
    if code == 0:
        return Ended("completed")
    said = one.started.said()
    if code in (143, -signal.SIGTERM):
        return Ended("terminated", said or "SIGTERM")
    return Ended("failed", reason(code, said, one.job.directory, log))


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Holds the sweep's folder. Its children hold it too: a sweep that was killed is over when they are."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"run.dir={root} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigError(f"run.dir={root}: another sweep runs there; wait for it, or end it") from error
    try:
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            root.rmdir()  # empty where the sweep's own words were wrong
