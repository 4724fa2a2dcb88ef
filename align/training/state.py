"""Everything of a run that moves, to a checkpoint and back: bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from align.alarms.watch import Watch
from align.errors import CheckpointError
from align.training.checkpoints import Checkpoint
from align.training.determinism import GeneratorStates, generator_states, restore_generators
from align.training.early_stopping import BestSoFar
from align.training.guards import require_finite_state
from align.training.meter import Meter
from align.types import Work


@dataclass
class Counters:
    """Where a run stands, besides its weights, its optimiser and the generators."""

    step: int = 0
    """Optimiser steps taken."""
    seconds: float = 0.0
    """Time spent training, over all sittings."""
    tokens: int = 0
    """Distinct tokens trained on (a shared prompt once), where the objective counts them."""
    work: Work = field(default_factory=Work)
    """What the model was given to do since the last line."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds since the last line, by phase of a step."""
    best: BestSoFar = field(default_factory=BestSoFar)
    meter: Meter = field(default_factory=Meter)
    line: dict[str, float] = field(default_factory=dict)
    """The last line of metrics."""
    line_step: int = 0
    """Its step; throughput is counted from there."""
    watch: Watch = field(default_factory=Watch)
    """What the alarms know of the lines so far."""

    def plain(self) -> dict[str, Any]:
        """As plain values; floats survive JSON exactly."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Counters:
        """The inverse of ``plain``, through JSON."""
        sums = {name: (total, count) for name, (total, count) in values["meter"]["sums"].items()}
        work, best = Work(**values["work"]), BestSoFar(**values["best"])
        watch = Watch.of(values["watch"])
        return cls(**{**values, "work": work, "best": best, "meter": Meter(sums), "watch": watch})


@dataclass(frozen=True)
class Trained:
    """What is trained, and what trains it."""

    model: Module
    parameters: Mapping[str, Parameter]
    optimiser: torch.optim.Optimizer
    device: torch.device


def capture(
    trained: Trained,
    counters: Counters,
    course: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    best_step: int | None,
) -> Checkpoint:
    """The run as a checkpoint: trainable weights and persistent buffers, optimiser, generators, counters.

    ``course`` is what the course keeps from step to step, as plain values. ``best_step`` is the checkpoint
    that it cannot do without: the best, where the run ends with it.

    Raises:
        NonFiniteError: a weight or a moment is NaN or infinite.
    """
    weights = _weights(trained)
    moments = _moments(trained)
    require_finite_state({**weights, **moments}, step=counters.step)
    generators = generator_states(trained.device)
    return Checkpoint(
        step=counters.step,
        tensors={"weights": weights, "optimiser": moments, "generators": generators.tensors},
        state={
            "counters": counters.plain(),
            "course": dict(course),
            "generators": generators.plain,
            "fingerprint": dict(fingerprint),
        },
        best_step=best_step,
    )


def restore(checkpoint: Checkpoint, trained: Trained) -> Counters:
    """Puts weights, optimiser and generators where they stood; returns the counters.

    Raises:
        CheckpointError: its tensors are not those of this model.
    """
    restore_weights(checkpoint, trained)
    _restore_moments(checkpoint.tensors["optimiser"], trained)
    generators = GeneratorStates(checkpoint.tensors["generators"], checkpoint.state["generators"])
    restore_generators(generators, trained.device)
    return Counters.of(checkpoint.state["counters"])


def restore_weights(checkpoint: Checkpoint, trained: Trained) -> None:
    """Puts the weights (and persistent buffers) where they stood, nothing else.

    Raises:
        CheckpointError: they are not those of this model.
    """
    saved, current = checkpoint.tensors["weights"], _weights(trained)
    strangers = sorted(set(saved) ^ set(current))
    strangers += [name for name in saved if name in current and not _alike(saved[name], current[name])]
    if strangers:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} is of another model: {', '.join(strangers[:4])} "
            f"{'differs' if len(strangers) == 1 else 'differ'}. Resume with its own model and adapter."
        )
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])


def _weights(trained: Trained) -> dict[str, Tensor]:
    persistent = trained.model.state_dict(keep_vars=True).keys()
    buffers = {name: buffer for name, buffer in trained.model.named_buffers() if name in persistent}
    return {**trained.parameters, **buffers}


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _moments(trained: Trained) -> dict[str, Tensor]:
    state = trained.optimiser.state
    return {
        f"{key}/{name}": value
        for name, parameter in trained.parameters.items()
        for key, value in state.get(parameter, {}).items()
    }


def _restore_moments(saved: Mapping[str, Tensor], trained: Trained) -> None:
    # By name, through the optimiser's own loading, which knows what belongs on which device. Its state_dict
    # numbers the parameters in the order of its groups.
    in_order = [parameter for group in trained.optimiser.param_groups for parameter in group["params"]]
    number = {parameter: index for index, parameter in enumerate(in_order)}
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, value in saved.items():
        key, name = full_name.split("/", maxsplit=1)
        state.setdefault(number[trained.parameters[name]], {})[key] = value
    trained.optimiser.load_state_dict(
        {"state": state, "param_groups": trained.optimiser.state_dict()["param_groups"]}
    )
