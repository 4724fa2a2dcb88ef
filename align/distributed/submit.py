"""Hands runs in as jobs, to SLURM or to a process of their own here, through submitit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from align.distributed.slurm import meeting_point
from align.errors import ConfigError, RankError
from align.typed import plain_values

if TYPE_CHECKING:
    from align.distributed.settings import LaunchSettings
    from align.run import Run

_POLL = 0.2
"""Seconds between looks at whether a job's work is over."""


class Submitted:
    """A job that was handed in."""

    def __init__(self, job: Any, directory: Path) -> None:
        self._job = job
        self.directory = directory
        """Directory of its run."""

    @property
    def name(self) -> str:
        """The cluster's number for it."""
        return str(self._job.job_id)

    @property
    def log(self) -> Path:
        """File that holds what it prints."""
        return Path(self._job.paths.stdout)

    def state(self) -> str:
        """The cluster's word for how it stands (PENDING, RUNNING, COMPLETED ...)."""
        return str(self._job.state)

    def done(self) -> bool:
        """Whether it is over, however it ended."""
        return bool(self._job.done())

    def exit_code(self) -> int | None:
        """Its command's; None while it is not over, 1 where the cluster ended it before it could say."""
        if not self.done():
            return None
        try:
            return int(_exit_file(Path(self._job.paths.folder)).read_text())
        except FileNotFoundError:
            return 1

    def cancel(self) -> None:
        """Takes it off the queue, or ends it."""
        self._job.cancel(check=False)

    def wait(self) -> int:
        """Waits until it is over; returns its exit code."""
        while (code := self.exit_code()) is None:
            time.sleep(_POLL)
        return code


def submit(run: Run) -> Submitted:
    """Hands in a run that was composed and checked here; its log lies beside its directory.

    A job that runs out of time is saved, put into the queue again, and continued.

    Raises:
        ConfigError: the run's directory is taken, submitit is not installed, or there is no such cluster.
    """
    run.check()
    try:
        with _logging_kept():
            import submitit
            from submitit.core.utils import FailedJobError
    except ModuleNotFoundError as error:
        raise ConfigError("launch.submit needs submitit: pip install 'align[slurm]'") from error
    settings, cluster = run.launch, run.launch.cluster
    assert settings.submit is not None
    folder = Path(f"{run.directory}.job").absolute()
    more = {f"{settings.submit}_max_num_timeout": cluster.max_num_timeout}
    devices = os.environ.get("CUDA_VISIBLE_DEVICES") if cluster.gpus_per_node is None else "given"
    work = Work(plain_values(run), str(Path.cwd()), settings.grace, settings.submit == "local", devices)
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=settings.submit, **more)
        executor.update_parameters(**_parameters(settings, run.directory.name))
        return Submitted(executor.submit(work), run.directory)
    except (FailedJobError, FileNotFoundError, RuntimeError) as error:
        raise ConfigError(f"launch.submit={settings.submit}: the job was not taken: {error}") from error


@contextmanager
def _logging_kept() -> Iterator[None]:
    """submitit configures logging when it is imported, which closes every handler that is there already."""
    name = "SUBMITIT_LOG_LEVEL"
    typed = os.environ.get(name)
    os.environ.setdefault(name, "NOCONFIG")
    try:
        yield
    finally:  # jobs say in their own logs what they do
        if typed is None:
            del os.environ[name]


def _parameters(settings: LaunchSettings, name: str) -> dict[str, Any]:
    cluster = settings.cluster
    found = {
        "name": name,
        "timeout_min": cluster.timeout_min,
        "nodes": settings.nodes,
        "tasks_per_node": 1,  # which starts the ranks of its node
        "gpus_per_node": cluster.gpus_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "mem_gb": cluster.mem_gb,
        "stderr_to_stdout": True,
        f"{settings.submit}_setup": list(cluster.setup) or None,
    }
    for key in ("partition", "qos", "account", "constraint", "exclude"):
        found[f"slurm_{key}"] = getattr(cluster, key)
    return {key: value for key, value in found.items() if value is not None}


@dataclass
class Work:
    """What travels to the cluster, and is called there, once a node."""

    plain: dict[str, Any]
    """The run as plain values."""
    directory: str
    """Working directory, that relative paths are meant from."""
    grace: float
    """Seconds that its ranks have to save in."""
    is_local: bool
    devices: str | None
    """CUDA_VISIBLE_DEVICES where it was handed in; submitit's local jobs see none otherwise."""
    process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Runs the command to its end.

        Raises:
            RankError: with its exit code, so that the cluster counts the job as failed.
        """
        import submitit

        environment = submitit.JobEnvironment()
        folder = Path(environment.paths.folder)
        file = folder / f"run-{environment.node}.json"
        file.write_text(json.dumps(self._here(environment.num_nodes, environment.node)), encoding="utf-8")
        signal.signal(signal.SIGTERM, self._pass_on)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "align.distributed.job", str(file)],
            cwd=self.directory,
            env=self._environment(),
            # SLURM sends it to every process of a job whose time is over; submitit alone is to answer
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        while (code := self.process.poll()) is None:
            time.sleep(_POLL)
        if environment.node == 0:
            _exit_file(folder).write_text(str(code))
        if code:
            raise RankError(f"exit code {code}", code)
        return code

    def checkpoint(self) -> Any:
        """Called where the job's time is over: saves, and returns what goes on later."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.terminate()
            until = time.monotonic() + self.grace
            while self.process.poll() is None and time.monotonic() < until:
                time.sleep(_POLL)
        going_on = {**self.plain, "values": {**self.plain["values"], "resume": True}}
        return DelayedSubmission(replace(self, plain=going_on, process=None))

    def _here(self, nodes: int, node: int) -> dict[str, Any]:
        """The run as this node is to do it."""
        meeting = {"node_rank": node, "rendezvous": meeting_point(os.environ)} if nodes > 1 else {}
        return _handed_in(self.plain, {**meeting, "submit": None, "cluster": {}})

    def _environment(self) -> dict[str, str]:
        found = dict(os.environ)
        if self.is_local and self.devices is None:
            found.pop("CUDA_VISIBLE_DEVICES", None)
        elif self.is_local and self.devices != "given":
            found["CUDA_VISIBLE_DEVICES"] = self.devices or ""
        return found

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def _handed_in(plain: dict[str, Any], launch: dict[str, Any]) -> dict[str, Any]:
    values = {**plain["values"], "launch": {**plain["values"]["launch"], **launch}}
    return {**plain, "values": values, "steps": [_handed_in(step, launch) for step in plain["steps"]]}


def _exit_file(folder: Path) -> Path:
    return folder / "exit_code"
