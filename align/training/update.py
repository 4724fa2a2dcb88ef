"""One optimiser step: forward and backward a micro-batch at a time, guard, clip, step.

Of several ranks each takes some of the micro-batches. All of them know the whole batch, and learn of it what
one rank alone would: sums over all that was counted.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from torch import Tensor
from torch.nn import Parameter

from align.distributed.engine import Engine
from align.distributed.world import gathered, own_share, sums, world
from align.errors import DataError
from align.tensors import Work
from align.training.determinism import strictly
from align.training.guards import blame, require_finite, require_finite_gradients

Item = TypeVar("Item")
ItemIn = TypeVar("ItemIn", contravariant=True)
ItemOut = TypeVar("ItemOut", covariant=True)


class Items(Protocol[ItemOut]):
    """What is trained on: a list, or a file that is read where an index points."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ItemOut: ...


@dataclass(frozen=True)
class Step:
    """What an objective says about one micro-batch."""

    loss_sum: Tensor
    """Scalar with a gradient: the SUM of the losses over the micro-batch's units (pairs, reply tokens)."""
    metrics: Mapping[str, tuple[float | Tensor, float]] = field(default_factory=dict)
    """Name -> (sum, count); a line shows sum / count over all that was counted since the line before."""
    work: Work | None = None
    """What the model was given to do; None where nobody counts."""


class Objective(Protocol[ItemIn]):
    """What a stage wants of its model. It draws from the global generators only, if it draws at all."""

    def weight(self, items: Sequence[ItemIn]) -> float:
        """Units in a batch (pairs, or reply tokens): what the sum of its losses is divided by."""

    def __call__(self, items: Sequence[ItemIn]) -> Step:
        """The forward pass of one micro-batch."""


@dataclass(frozen=True)
class Taken:
    """What became of a step: name -> (sum, count), ``loss`` and ``grad_norm`` (before clipping) included."""

    metrics: Mapping[str, tuple[float, float]]
    work: Work | None


def update(
    objective: Objective[Item],
    items: Sequence[Item],
    *,
    parameters: Mapping[str, Parameter],
    engine: Engine,
    micro_batch_size: int | None,
    max_grad_norm: float,
    step: int,
    ids: Sequence[str],
    lap: Callable[[str], None],
) -> Taken:
    """Takes one optimiser step on a batch, of which every rank is given the whole.

    The gradient is that of (sum of all losses) / (weight of the whole batch), so that the split into
    micro-batches changes it by rounding only: 1x8, 2x4 and 8x1 agree. (Except for losses that couple the
    items of a micro-batch.)

    Args:
        items: the whole batch; ``micro_batch_size`` of them go through the model at a time (see ``cut``).
        parameters: what is trained, by name.
        step: 1-based, for messages; ``ids`` name the items in them.
        lap: called with the phase (``forward``, ``backward``, ``optimiser``) that has just ended.

    Raises:
        NonFiniteError: a loss, metric or gradient is NaN or infinite; no weight was changed.
        DataError: nothing in the batch counts.
    """
    engine.begin()
    lap("optimiser")
    weight = float(objective.weight(items))
    if not weight > 0:
        raise DataError(f"step {step}: nothing counts in the loss of the batch {', '.join(ids)}")
    loss_sum = 0.0
    work: Work | None = None
    metrics: dict[str, tuple[float, float]] = {}
    chunks = cut(len(items), micro_batch_size)
    mine = own_share(chunks)
    for number in range(passes(chunks)):
        if number >= len(mine):
            _pass_along(engine, objective, items[chunks[0]])
            continue
        chunk = mine[number]
        outcome = _forward(engine, objective, items[chunk])
        loss_sum += _checked_loss(outcome.loss_sum, parameters, step, ids[chunk])
        for name, (value, count) in outcome.metrics.items():
            before, counted = metrics.get(name, (0.0, 0.0))
            require_finite(name, float(value), step=step, ids=ids[chunk])
            metrics[name] = (before + float(value), counted + float(count))
        if outcome.work is not None:
            work = outcome.work if work is None else work + outcome.work
        lap("forward")
        with strictly():
            engine.backward(outcome.loss_sum / weight)
        lap("backward")
    norm = engine.step(
        max_grad_norm, lambda found: require_finite_gradients(parameters, found, step=step, ids=ids)
    )
    found = sums({"loss": (loss_sum, 0.0), **metrics})
    work = _whole_work(work)
    lap("optimiser")
    return Taken({"loss": (found.pop("loss")[0], weight), "grad_norm": (norm, 1.0), **found}, work)


def cut(count: int, micro_batch_size: int | None) -> list[slice]:
    """A batch in micro-batches, in its order; without a size, as many as there are ranks."""
    size = micro_batch_size or math.ceil(count / world().size)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def passes(chunks: Sequence[slice]) -> int:
    """How often each rank goes through the model, where the ranks share these micro-batches."""
    return math.ceil(len(chunks) / world().size)


def _forward(engine: Engine, objective: Objective[Item], items: Sequence[Item]) -> Step:
    found: list[Step] = []

    def compute() -> Tensor:
        found.append(objective(items))
        return found[0].loss_sum

    loss = engine.forward(compute)
    return replace(found[0], loss_sum=loss)


def _pass_along(engine: Engine, objective: Objective[Item], items: Sequence[Item]) -> None:
    """A pass that counts for nothing, on a rank that has fewer micro-batches: weights and gradients of the
    others travel through all ranks."""
    loss = 0.0 * _forward(engine, objective, items).loss_sum
    with strictly():
        engine.backward(loss)


def _whole_work(own: Work | None) -> Work | None:
    """What all ranks gave their models to do."""
    counted = [one for one in gathered(own) if one is not None]
    return functools.reduce(operator.add, counted) if counted else None


def _checked_loss(loss: Tensor, parameters: Mapping[str, Parameter], step: int, ids: Sequence[str]) -> float:
    value = float(loss.detach())
    if value - value != 0.0:  # NaN or infinite: look for the cause while it can still be seen
        require_finite("loss", value, step=step, ids=ids, hint=blame(parameters.items()))
    return value
