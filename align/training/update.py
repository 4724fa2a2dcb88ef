"""One optimiser step: forward and backward a micro-batch at a time, guard, clip, step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from align.errors import DataError
from align.training.determinism import strictly
from align.training.guards import blame, require_finite, require_finite_gradients
from align.types import Work

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
    optimiser: torch.optim.Optimizer,
    micro_batch_size: int,
    max_grad_norm: float,
    step: int,
    ids: Sequence[str],
    lap: Callable[[str], None],
) -> Taken:
    """Takes one optimiser step on a batch.

    The gradient is that of (sum of all losses) / (weight of the whole batch), so that the split into
    micro-batches changes it by rounding only: 1x8, 2x4 and 8x1 agree. (Except for losses that couple the
    items of a micro-batch.)

    Args:
        items: the whole batch; ``micro_batch_size`` of them go through the model at a time.
        parameters: what is trained, by name.
        step: 1-based, for messages; ``ids`` name the items in them.
        lap: called with the phase (``forward``, ``backward``, ``optimiser``) that has just ended.

    Raises:
        NonFiniteError: a loss, metric or gradient is NaN or infinite; no weight was changed.
        DataError: nothing in the batch counts.
    """
    optimiser.zero_grad(set_to_none=True)
    lap("optimiser")
    weight = float(objective.weight(items))
    if not weight > 0:
        raise DataError(f"step {step}: nothing counts in the loss of the batch {', '.join(ids)}")
    loss_sum = 0.0
    work: Work | None = None
    metrics: dict[str, tuple[float, float]] = {}
    for first in range(0, len(items), micro_batch_size):
        chunk = slice(first, first + micro_batch_size)
        outcome = objective(items[chunk])
        loss_sum += _checked_loss(outcome.loss_sum, parameters, step, ids[chunk])
        for name, (value, count) in outcome.metrics.items():
            before, counted = metrics.get(name, (0.0, 0.0))
            require_finite(name, float(value), step=step, ids=ids[chunk])
            metrics[name] = (before + float(value), counted + float(count))
        if outcome.work is not None:
            work = outcome.work if work is None else work + outcome.work
        lap("forward")
        with strictly():
            (outcome.loss_sum / weight).backward()  # type: ignore[no-untyped-call]
        lap("backward")
    norm = _clip(parameters, max_grad_norm, step, ids)
    optimiser.step()
    lap("optimiser")
    return Taken({"loss": (loss_sum, weight), "grad_norm": (norm, 1.0), **metrics}, work)


def _checked_loss(loss: Tensor, parameters: Mapping[str, Parameter], step: int, ids: Sequence[str]) -> float:
    value = float(loss.detach())
    if value - value != 0.0:  # NaN or infinite: look for the cause while it can still be seen
        require_finite("loss", value, step=step, ids=ids, hint=blame(parameters.items()))
    return value


def _clip(parameters: Mapping[str, Parameter], max_norm: float, step: int, ids: Sequence[str]) -> float:
    """Global gradient norm before clipping; the gradients are clipped to ``max_norm``."""
    with_gradient = [parameter for parameter in parameters.values() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    require_finite_gradients(parameters, float(norm), step=step, ids=ids)
    torch.nn.utils.clip_grads_with_norm_(with_gradient, max_norm, norm)
    return float(norm)
