"""Starts the ranks of a run with torch's elastic launcher, watches them, and says what became of them."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.distributed.rank import PARENT, RESOLVED
from align.distributed.slurm import meeting_point, node_rank
from align.distributed.verdict import Ends, verdict
from align.distributed.watcher import Watcher
from align.errors import ConfigError
from align.typed import write_resolved

if TYPE_CHECKING:
    from align.distributed.settings import LaunchSettings
    from align.run import Run


def launch(run: Run) -> None:
    """Does a run's work in ``launch.nproc`` processes on this machine, and waits for them.

    Raises:
        RankError: a rank failed, was killed, left early or hung; the others were ended, and it is named.
        Terminated: SIGTERM arrived and was passed on; ranks finish their step and save.
    """
    settings = placed(run.launch, os.environ)
    _refuse_missing_devices(settings)
    folder = Path(tempfile.mkdtemp(prefix="align-launch-"))
    try:
        write_resolved(folder / RESOLVED, run)
        error = _start_and_wait(settings, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if error is not None:
        run.note_fall(str(error))
        raise error


def placed(settings: LaunchSettings, environment: Mapping[str, str]) -> LaunchSettings:
    """The settings with what SLURM says of this node, where it was not typed.

    Raises:
        ConfigError: several nodes that cannot find each other.
    """
    if settings.nodes == 1:
        return settings
    rank = node_rank(environment) if settings.node_rank is None else settings.node_rank
    meeting = settings.rendezvous or meeting_point(environment)
    if meeting is None:
        raise ConfigError(
            f"launch.nodes={settings.nodes}: type launch.rendezvous=HOST:PORT, the same on each node, and "
            f"launch.node_rank=0, 1, ...; srun and launch.submit=slurm say both themselves"
        )
    return replace(settings, node_rank=rank, rendezvous=meeting)


def _start_and_wait(settings: LaunchSettings, folder: Path) -> Exception | None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import launch_agent

    os.environ[PARENT] = str(os.getpid())
    codes: dict[int, int] = {}
    stopped: signal.Signals | None = None
    watcher = Watcher(folder, settings)
    with _quiet_agent(), _signals_kept(), watcher:
        try:
            arguments = ["-m", "align.distributed.rank", str(folder)]
            launch_agent(_config(settings, folder), sys.executable, arguments)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except SignalException as error:
            stopped = error.sigval
    if stopped == signal.SIGINT:
        raise KeyboardInterrupt
    ends = Ends(
        size=settings.nproc * settings.nodes,
        ranks=watcher.ranks(),
        codes=codes,
        hung=watcher.hung,
        gone=watcher.gone,
        killed=watcher.killed,
        stopped=stopped,
    )
    return verdict(folder, ends)


def _config(settings: LaunchSettings, folder: Path) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    is_static = settings.nodes > 1 and settings.node_rank is not None
    # what other ranks print would only say the same again; it is shown where one of them dies
    redirects = dict.fromkeys(range(1, settings.nproc), Std.ALL)
    return LaunchConfig(
        min_nodes=settings.nodes,
        max_nodes=settings.nodes,
        nproc_per_node=settings.nproc,
        run_id="align" if settings.nodes > 1 else uuid.uuid4().hex,
        rdzv_backend="static" if is_static else "c10d",
        rdzv_endpoint=settings.rendezvous or "127.0.0.1:0",
        rdzv_configs={"rank": settings.node_rank, "timeout": int(settings.timeout)} if is_static else {},
        # the machine's own name may lead nowhere
        local_addr="127.0.0.1" if settings.nodes == 1 else None,
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), redirects=redirects),
        shutdown_timeout=int(settings.grace),
    )


def _refuse_missing_devices(settings: LaunchSettings) -> None:
    import torch

    if torch.cuda.is_available() and settings.nproc > torch.cuda.device_count():
        raise ConfigError(
            f"launch.nproc={settings.nproc}: this machine shows {torch.cuda.device_count()} CUDA devices, "
            f"and each rank takes one; CUDA_VISIBLE_DEVICES= (empty) computes on the processor"
        )


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """The agent's own account of signals and exit codes is told once, by ``verdict``."""
    # each of its loggers has a level of its own
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]
    former = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in former.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """The agent takes over four signals and leaves them so."""
    taken = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
    former = {number: signal.getsignal(number) for number in taken}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
