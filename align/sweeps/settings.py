"""The settings of a sweep itself; none of them reaches a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from align.protocols import Search
from align.settings import PositiveInt


@dataclass(frozen=True)
class Shared:
    """How a sweep's jobs share this machine (section ``launch``)."""

    parallel: PositiveInt | None = None
    """Jobs at a time; cores, or CUDA devices, are divided between them. None is one, and all of them where
    jobs are handed in to SLURM and none waits for what another finds."""


@dataclass(frozen=True)
class Root:
    """Where a sweep writes (section ``run``)."""

    dir: str
    """The folder of its jobs' folders; given again, the sweep goes on."""


@dataclass(frozen=True)
class SweepSettings:
    """What ``python -m align -m`` reads besides the words of its jobs."""

    run: Root
    sweep: Search
    launch: Shared = field(default_factory=Shared)
