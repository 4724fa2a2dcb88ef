"""How the ranks of a run are started, watched and ended (section ``launch``); imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from align.config import Range
from align.errors import ConfigError
from align.settings import NaturalInt, Positive, PositiveInt

Grace = Annotated[float, Range(low=5)]


@dataclass(frozen=True)
class ClusterSettings:
    """What a submitted job asks its cluster for, in the names of submitit and of Hydra's plugin for it."""

    timeout_min: PositiveInt = 60
    """Minutes that the job may take; at the end it is saved, and put into the queue again."""
    max_num_timeout: NaturalInt = 3
    """How often it is put into the queue again after it ran out of time."""
    gpus_per_node: NaturalInt | None = None
    """CUDA devices of each node; none asks for none (``local``: takes those there are)."""
    cpus_per_task: PositiveInt | None = None
    """Cores of each node."""
    mem_gb: PositiveInt | None = None
    """Memory of each node, in GiB."""
    partition: str | None = None
    """SLURM's partition."""
    qos: str | None = None
    """SLURM's quality of service."""
    account: str | None = None
    """Who pays."""
    constraint: str | None = None
    """Features that the nodes must have."""
    exclude: str | None = None
    """Nodes not to take."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the job (``module load cuda``)."""


@dataclass(frozen=True)
class LaunchSettings:
    """The processes of one run, and the machines that they share."""

    nproc: PositiveInt = 1
    """Ranks on this node: one a CUDA device, or any number that the cores bear."""
    nodes: PositiveInt = 1
    """Nodes; the same command is given on each, with its own ``node_rank``."""
    node_rank: NaturalInt | None = None
    """Which node this is, from 0; none where there is one node, or where SLURM says it."""
    rendezvous: str | None = None
    """HOST:PORT on node 0 at which the nodes meet; none where there is one node, or where SLURM says it."""
    grace: Grace = 60.0
    """Seconds within which all ranks end after one died or hung; also what SIGTERM leaves them to save in."""
    timeout: Positive = 1800.0
    """Seconds that a rank waits for the others in a collective before it gives up."""

    submit: Literal["slurm", "local"] | None = None
    """Where the run is handed in as a job: SLURM, or a process of its own here; none runs it at once."""
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    """What the job asks for, where it is handed in."""

    def __post_init__(self) -> None:
        if self.submit == "local" and self.nodes > 1:
            raise ConfigError(f"submit=local has one node, this one: nodes={self.nodes} needs submit=slurm")
        if self.submit and (self.node_rank is not None or self.rendezvous):
            raise ConfigError("SLURM says node_rank and rendezvous where submit is given: leave them out")
        if self.submit is None and self.cluster != ClusterSettings():
            raise ConfigError("cluster is for jobs that are handed in: give submit=slurm, or leave it out")
        if self.nodes == 1 and (self.node_rank or self.rendezvous):
            raise ConfigError("node_rank and rendezvous are for several nodes: give nodes, or leave them out")
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ConfigError(f"node_rank={self.node_rank}: nodes={self.nodes} are counted from 0")
        if self.rendezvous and not self.rendezvous.rpartition(":")[2].isdigit():
            raise ConfigError(f"rendezvous={self.rendezvous}: type HOST:PORT, for example node0:29500")

    def is_one_process(self) -> bool:
        """Whether there is nobody to meet."""
        return self.nproc * self.nodes == 1
