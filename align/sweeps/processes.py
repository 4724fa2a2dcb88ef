"""A job in a process of its own: forked from this one, or started as a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO, TextIOWrapper
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from align.answer import answered
from align.distributed.parent import die_with_parent
from align.errors import AlignError
from align.report.console import say
from align.sweeps.shares import Share

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from align.distributed.submit import Submitted
    from align.run import Run


class Started(Protocol):
    """A job that has begun."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""

    def said(self) -> str:
        """The error that ended it, as far as it told."""

    def stop(self) -> None:
        """Asks it to save and end."""

    def kill(self) -> None:
        """Ends it and what it started."""


@dataclass
class Forked:
    """A child of this process, which has what this one imported."""

    process: Any
    errors: Connection
    _said: str = field(default="", init=False)

    def poll(self) -> int | None:
        if self.process.exitcode is None:
            return None
        while self.errors.poll():
            try:
                self._said = self.errors.recv()
            except EOFError:
                break
        code: int = self.process.exitcode
        return code

    def said(self) -> str:
        return self._said

    def stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        _kill_group(self.process.pid)


def forked(run: Run, share: Share, log: Path | None) -> Forked:
    """Executes a run in a child; its output goes to ``log``, or where ours goes."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(run, share, log, theirs, os.getpid()))
    process.start()
    theirs.close()
    return Forked(process, ours)


def _child(run: Run, share: Share, log: Path | None, errors: Connection, parent: int) -> None:
    os.setpgrp()  # ctrl-C is for the parent, which lets its children save
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with_parent(parent, signal.SIGTERM)
    os.environ.update(share.environment())
    if log is not None:
        _write_to(log)
    if torch := sys.modules.get("torch"):
        # the pool's size was read from the environment when torch was imported
        torch.set_num_threads(share.threads)
    sys.exit(answered(lambda: _told(run, errors)))


def _told(run: Run, errors: Connection) -> int:
    """Does the work, and tells the parent what it stopped at."""
    from align.distributed.start import start

    try:
        start(run)
    except AlignError as error:
        errors.send(str(error))
        raise
    except Exception as error:
        traceback.print_exc()
        errors.send(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _write_to(log: Path) -> None:
    """Gives this process a file as its output, line by line, so that somebody may follow it."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    sys.stdout, sys.stderr = (
        TextIOWrapper(FileIO(number, "w", closefd=False), encoding="utf-8", line_buffering=True)
        for number in (1, 2)
    )


@dataclass
class Spawned:
    """A command of its own."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def said(self) -> str:
        return ""

    def stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        _kill_group(self.process.pid)


def spawned(words: Sequence[str], share: Share, log: Path | None) -> Spawned:
    """Starts ``python -m align WORDS``; its output goes to ``log``, or where ours goes."""
    command = [sys.executable, "-m", "align", *words]
    parent = os.getpid()
    if log is None:
        return Spawned(_started(command, share, parent, None))
    with log.open("ab") as file:
        return Spawned(_started(command, share, parent, file))


def _started(command: Sequence[str], share: Share, parent: int, output: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={**os.environ, **share.environment()},
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        process_group=0,
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )


@dataclass
class HandedIn:
    """A job of a cluster."""

    job: Submitted

    def poll(self) -> int | None:
        return self.job.exit_code()

    def said(self) -> str:
        return ""

    def stop(self) -> None:
        self.job.cancel()

    def kill(self) -> None:
        self.job.cancel()


def handed_in(run: Run) -> HandedIn:
    """Hands a run in to the cluster that ``launch.submit`` names."""
    from align.distributed.submit import submit

    job = submit(run)
    say(f"  handed in as job {job.name}; its log: {job.log}")
    return HandedIn(job)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:  # the group is not there yet
        os.kill(pid, signal.SIGKILL)
