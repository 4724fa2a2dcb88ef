"""From a proposal to a job that runs, or to why it does not."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from align.compose import run_from
from align.errors import AlignError
from align.overrides import quoted
from align.run import Run, read_record
from align.sweeps.axes import Swept
from align.sweeps.jobs import Ended, Job, Proposal
from align.sweeps.processes import Started, forked, handed_in, spawned
from align.sweeps.shares import Machine, machine, shares


@dataclass
class Starter:
    """Composes jobs and starts them."""

    swept: Swept
    root: Path
    parallel: int
    found: Machine = field(default_factory=machine)
    _forks: bool | None = field(default=None, init=False)

    def job(self, number: int, proposal: Proposal) -> Job:
        """A proposal with its place and all its words."""
        directory = self.root / proposal.name
        words = (*self.swept.job(proposal.varied), f"run.dir={quoted(str(directory))}")
        return Job(number, proposal.name, proposal.varied, words, directory)

    def start(self, job: Job, slot: int) -> Started | Ended:
        """Begins a job, or goes on with it; ``Ended`` where it is whole already, or its words are wrong."""
        try:
            run = self._composed(job)
            if run.is_whole():
                return Ended("skipped")
            begun = read_record(job.directory) is not None
            run = run.continued(run.resume or begun)
            if run.launch.submit is not None:
                return handed_in(run)
            share = shares(self.found, self.parallel, run.launch.nproc)[slot]
        except AlignError as error:
            return Ended("failed", str(error))
        log = self.log(job)
        if self._can_fork():
            return forked(run, share, log)
        return spawned([*job.words, *(["resume=true"] if begun else [])], share, log)

    def log(self, job: Job) -> Path | None:
        """Where a job's output goes while others write too; None: to the terminal."""
        if self.parallel == 1 or (self.root / f"{job.name}.job").is_dir():
            return None
        path = self.root / "logs" / f"{job.name}.txt"
        path.parent.mkdir(exist_ok=True)
        return path

    def _composed(self, job: Job) -> Run:
        """The run, in the tracker's group that is named by the sweep where nobody named another."""
        command = ["python", "-m", "align", *job.words]
        run = run_from(job.words, command)
        if "group" in run.config["tracking"] and run.config["tracking"]["group"] is None:
            run = run_from([*job.words, f"tracking.group={quoted(self.root.resolve().name)}"], command)
        return run

    def _can_fork(self) -> bool:
        """Whether jobs can be children of this process, which then has imported what they need."""
        if self._forks is None:
            from align.sweeps.warm import warm

            self._forks = sys.platform == "linux" and warm()
        return self._forks
