"""What takes an optimiser step on one rank or on several: how gradients meet, and who holds what.

A rank sees its part of a batch. The gradient that a step follows is the sum of what all ranks passed back, so
a loss is divided by the weight of the whole batch, as on one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from align.distributed.world import gathered, world
from align.settings import DeepspeedSettings

BUCKET = 1 << 24
"""Numbers of one sum over the ranks: large enough to be worth a message, small beside a model."""

Refuse = Callable[[float], None]
"""Told the norm of the gradient before a weight is changed; raises where it is not finite."""


class Engine(Protocol):
    """A model in training, with its optimiser."""

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Its groups hold the learning rate."""

    def begin(self) -> None:
        """Forgets the gradients of the step before."""

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """One pass: what ``compute`` returns, a loss. Every rank makes as many."""

    def backward(self, loss: Tensor) -> None:
        """Adds a pass's gradient. Every rank calls it as often."""

    def step(self, max_norm: float, refuse: Refuse) -> float:
        """Changes the weights, by a gradient clipped to ``max_norm``; returns its norm before."""

    def whole(self) -> AbstractContextManager[None]:
        """Inside, every rank holds all weights, and passes of the model need no other rank."""

    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters that are trained, by name, whoever holds what of them."""

    def weights(self) -> dict[str, Tensor]:
        """The parameters that are trained, whole, by name, on rank 0; every rank calls it."""

    def moments(self) -> dict[str, Tensor]:
        """What the optimiser remembers, whole, as ``exp_avg/<parameter>``, on rank 0; every rank calls it."""

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Puts parameters (and what the optimiser remembers, unless empty) where they stood, by name."""

    def close(self) -> None:
        """Ends training: the model is a plain one again, whole on every rank."""


def open_engine(
    model: Module,
    parameters: Mapping[str, Parameter],
    optimiser: torch.optim.AdamW,
    settings: DeepspeedSettings,
    max_norm: float,
) -> Engine:
    """The engine that the settings ask for; the weights of all ranks are rank 0's.

    Args:
        parameters: what is trained, by name; ``optimiser`` holds the same.
        max_norm: of the gradient; the same in every step.
    """
    if settings.stage == 0:
        _agree(model)
        return Replicated(parameters, optimiser)
    from align.distributed.zero import Partitioned

    return Partitioned(model, parameters, optimiser, settings, max_norm)


class Replicated:
    """Every rank holds everything; gradients are added up before a step. Alone, there is nothing to add."""

    def __init__(self, parameters: Mapping[str, Parameter], optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser
        self._parameters = parameters

    def begin(self) -> None:
        """See ``Engine``."""
        self.optimiser.zero_grad(set_to_none=True)

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """See ``Engine``."""
        return compute()

    def backward(self, loss: Tensor) -> None:
        """See ``Engine``."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, max_norm: float, refuse: Refuse) -> float:
        """See ``Engine``."""
        if world().size > 1:
            _add_up(self._parameters)
        with_gradient = [one for one in self._parameters.values() if one.grad is not None]
        norm = torch.nn.utils.get_total_norm([one.grad for one in with_gradient if one.grad is not None])
        refuse(float(norm))
        torch.nn.utils.clip_grads_with_norm_(with_gradient, max_norm, norm)
        self.optimiser.step()
        return float(norm)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """They always are."""
        yield

    def shapes(self) -> dict[str, torch.Size]:
        """See ``Engine``."""
        return {name: one.shape for name, one in self._parameters.items()}

    def weights(self) -> dict[str, Tensor]:
        """See ``Engine``: every rank holds them."""
        return {name: one.detach() for name, one in self._parameters.items()}

    def moments(self) -> dict[str, Tensor]:
        """See ``Engine``."""
        state = self.optimiser.state
        return {
            f"{key}/{name}": value
            for name, parameter in self._parameters.items()
            for key, value in state.get(parameter, {}).items()
        }

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """See ``Engine``."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        if moments:
            self._restore(moments)

    def _restore(self, moments: Mapping[str, Tensor]) -> None:
        # By name, through the optimiser's own loading, which knows what belongs on which device. Its
        # state_dict numbers the parameters in the order of its groups.
        groups = self.optimiser.param_groups
        in_order = [parameter for group in groups for parameter in group["params"]]
        number = {parameter: index for index, parameter in enumerate(in_order)}
        state: dict[int, dict[str, Tensor]] = {}
        for full_name, value in moments.items():
            key, name = full_name.split("/", maxsplit=1)
            state.setdefault(number[self._parameters[name]], {})[key] = value
        self.optimiser.load_state_dict(
            {"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]}
        )

    def close(self) -> None:
        """There is nothing to take down."""


def _agree(model: Module) -> None:
    """Rank 0's weights and buffers on every rank."""
    if world().size == 1:
        return
    from torch import distributed

    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.data, src=0)


def _add_up(parameters: Mapping[str, Parameter]) -> None:
    """Every rank's gradients, added up. One that others alone have is zero here; what none has stays so."""
    own = {name for name, parameter in parameters.items() if parameter.grad is not None}
    given = set().union(*gathered(own))
    waiting: list[Tensor] = []
    for name, parameter in parameters.items():
        if name not in given:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        waiting.append(parameter.grad)
        if sum(one.numel() for one in waiting) >= BUCKET:
            _sum_in_place(waiting)
            waiting = []
    if waiting:
        _sum_in_place(waiting)


def _sum_in_place(tensors: list[Tensor]) -> None:
    """Adds each up over the ranks, all in one message."""
    from torch import distributed

    flat = torch.cat([one.flatten() for one in tensors])
    distributed.all_reduce(flat)
    for one, summed in zip(tensors, torch.split(flat, [one.numel() for one in tensors]), strict=True):
        one.copy_(summed.view_as(one))
