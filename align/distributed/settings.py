"""How the ranks of a run are started, watched and ended (section ``launch``); imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from align.config import Range
from align.errors import ConfigError
from align.settings import NaturalInt, Positive, PositiveInt

Grace = Annotated[float, Range(low=5)]


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

    def __post_init__(self) -> None:
        if self.nodes == 1 and (self.node_rank or self.rendezvous):
            raise ConfigError("node_rank and rendezvous are for several nodes: give nodes, or leave them out")
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ConfigError(f"node_rank={self.node_rank}: nodes={self.nodes} are counted from 0")
        if self.rendezvous and not self.rendezvous.rpartition(":")[2].isdigit():
            raise ConfigError(f"rendezvous={self.rendezvous}: type HOST:PORT, for example node0:29500")

    def is_one_process(self) -> bool:
        """Whether there is nobody to meet."""
        return self.nproc * self.nodes == 1
