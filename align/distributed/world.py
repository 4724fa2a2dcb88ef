"""The processes (ranks) that work on one run together, and the little that they tell each other.

A launcher tells each rank who it is through RANK, WORLD_SIZE and LOCAL_RANK; where it says nothing there is
one rank, and all of this does nothing: callers have no ``if distributed``. What one rank says travels as a
Python object on the processors, whatever the model's device; gradients and weights are the engine's to move.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from align.errors import AlignError, ConfigError, StoppedElsewhere

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT = 1800.0
"""Seconds that ranks wait for each other in a collective, where nobody says otherwise: rank 0 may prepare
data for long while the others wait."""


@dataclass(frozen=True)
class World:
    """Which of the ranks this process is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Its number on its own machine."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes and speaks."""
        return self.rank == 0


def world() -> World:
    """This process by its environment.

    Raises:
        ConfigError: the environment names a rank that cannot be.
    """
    names = {"rank": ("RANK", 0), "size": ("WORLD_SIZE", 1), "local_rank": ("LOCAL_RANK", 0)}
    try:
        found = World(**{name: int(os.environ.get(key, lacking)) for name, (key, lacking) in names.items()})
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE and LOCAL_RANK are whole numbers: {error}") from error
    if not 0 <= found.rank < found.size:
        raise ConfigError(
            f"the environment says RANK={found.rank} of WORLD_SIZE={found.size}: unset both, or start the "
            f"run with launch.nproc=N, torchrun or accelerate launch, which set them"
        )
    return found


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[World]:
    """The ranks find each other, and part at the end: every collective belongs inside.

    Inside another ``joined``, and alone, it changes nothing. ``timeout`` is in seconds: a rank that waits
    longer in a collective raises.
    """
    this = world()
    if this.size == 1:
        yield this
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():
        yield this
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(this.local_rank % torch.cuda.device_count())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        rank=this.rank,
        world_size=this.size,
        timeout=timedelta(seconds=timeout),
    )
    try:
        yield this
    finally:
        # without it, ranks that end at unlike times abort now and then
        distributed.destroy_process_group()


def barrier() -> None:
    """Waits until every rank is here."""
    gathered(None)


def gathered(value: T) -> list[T]:
    """Every rank's value, in the order of the ranks, on every rank."""
    this = world()
    if this.size == 1:
        return [value]
    from torch import distributed

    found: list[T | None] = [None] * this.size
    distributed.all_gather_object(found, value)
    return found  # type: ignore[return-value]


def of_first(value: T) -> T:
    """Rank 0's value, on every rank."""
    this = world()
    if this.size == 1:
        return value
    from torch import distributed

    found = [value if this.leads else None]
    distributed.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]


def led(work: Callable[[], T]) -> T:
    """Rank 0 does something alone while the others wait; all get its result, or stop at its error.

    Raises:
        StoppedElsewhere: on the other ranks, where it raised on rank 0; with the same exit code.
    """
    this = world()
    if this.size == 1:
        return work()
    if not this.leads:
        failed, result = of_first((None, None))
        if failed is not None:
            raise StoppedElsewhere(*failed)
        return result  # type: ignore[return-value]
    try:
        result = work()
    except BaseException as error:
        code = error.exit_code if isinstance(error, AlignError) else 1
        of_first(((f"rank 0 stopped: {type(error).__name__}: {error}", code), None))
        raise
    return of_first((None, result))[1]


def sums(pairs: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """(sum, count) by name, added up over the ranks in their order; a rank may lack a name."""
    if world().size == 1:
        return dict(pairs)
    found: dict[str, tuple[float, float]] = {}
    for one in gathered(dict(pairs)):
        for name, (value, count) in one.items():
            before, counted = found.get(name, (0.0, 0.0))
            found[name] = (before + value, counted + count)
    return found


def on_any(holds: bool) -> bool:
    """Whether something holds on any rank."""
    return any(gathered(holds))


def shared_out(parts: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """What ``work`` makes of each part, each rank at its share: all of it, in the order of the parts."""
    own = [work(part) for part in own_share(parts)]
    return own if world().size == 1 else [one for found in gathered(own) for one in found]


def in_shares(count: int, work: Callable[[Sequence[int]], list[R]]) -> list[R]:
    """What ``work`` makes of ``count`` things by their numbers, one result each, where it takes many at once.

    Each rank is given its share, and gets all results in the order of the numbers.
    """
    if world().size == 1:
        return work(range(count))
    own = own_share(range(count))
    return [one for found in gathered(work(own) if own else []) for one in found]


def own_share(parts: Sequence[T]) -> list[T]:
    """The parts of something that are this rank's: neighbours, and as many as the other ranks' but for one.

    The shares of all ranks, end to end, are the parts in their order.
    """
    this = world()
    first, last = (len(parts) * rank // this.size for rank in (this.rank, this.rank + 1))
    return list(parts[first:last])
