"""What each job that runs at a time may use of this machine: cores, or CUDA devices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from align.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """One job's part of the machine."""

    threads: int
    """Threads of each of its ranks."""
    devices: tuple[str, ...]
    """CUDA devices as ``CUDA_VISIBLE_DEVICES`` names them; empty where there are none."""

    def environment(self) -> dict[str, str]:
        """What a process finds its share by."""
        found = {"OMP_NUM_THREADS": str(self.threads)}
        return {**found, "CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else found


@dataclass(frozen=True)
class Machine:
    """What there is to share."""

    cores: int
    devices: tuple[str, ...]
    most_threads: int | None = None
    """``OMP_NUM_THREADS`` where it is set: no job takes more."""


def machine(environment: Mapping[str, str] = os.environ) -> Machine:
    """This one, without opening a CUDA device: a process that did could not be forked any more."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    set_threads = environment.get("OMP_NUM_THREADS", "")
    return Machine(cores, _devices(environment), int(set_threads) if set_threads.isdigit() else None)


def shares(found: Machine, parallel: int, ranks: int) -> list[Share]:
    """``parallel`` shares for jobs of so many ranks each; cores beyond a whole number a rank stay free.

    Jobs of one rank may share a device, dealt round; ranks of several jobs may not.

    Raises:
        ConfigError: fewer devices than the jobs at a time have ranks.
    """
    threads = max(1, found.cores // (parallel * ranks))
    if found.most_threads is not None and (ranks == 1 or parallel > 1):
        threads = min(threads, found.most_threads)
    count = len(found.devices)
    if count and ranks > 1 and parallel * ranks > count:
        raise ConfigError(
            f"launch.parallel={parallel} jobs of launch.nproc={ranks} need {parallel * ranks} CUDA devices, "
            f"there are {count}: launch.parallel={max(1, count // ranks)}"
        )
    if not count:
        return [Share(threads, ()) for _ in range(parallel)]
    each = [
        tuple(found.devices[(slot * ranks + rank) % count] for rank in range(ranks))
        for slot in range(parallel)
    ]
    if parallel == 1:
        each = [found.devices]
    return [Share(threads, devices) for devices in each]


def _devices(environment: Mapping[str, str]) -> tuple[str, ...]:
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(one.strip() for one in named.split(",") if one.strip() not in ("", "-1"))
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(listed.stdout.split())
