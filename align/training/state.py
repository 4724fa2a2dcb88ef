"""Everything of a run that moves, to a checkpoint and back: bit for bit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from align.alarms.watch import Watch
from align.distributed.engine import Engine
from align.distributed.world import gathered, led, world
from align.errors import CheckpointError
from align.tensors import Work
from align.training.checkpoints import Checkpoint
from align.training.determinism import GeneratorStates, generator_states, restore_generators
from align.training.early_stopping import BestSoFar
from align.training.guards import require_finite_state
from align.training.meter import Meter


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
    engine: Engine
    device: torch.device


def capture(
    trained: Trained,
    counters: Counters,
    course: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    best_step: int | None,
) -> Checkpoint:
    """The run as a checkpoint: trainable weights and persistent buffers, optimiser, generators, counters.

    All ranks call it; what it returns is rank 0's to write.

    ``course`` is what the course keeps from step to step, as plain values. ``best_step`` is the checkpoint
    that it cannot do without: the best, where the run ends with it.

    Raises:
        NonFiniteError: a weight or a moment is NaN or infinite.
    """
    weights = {**trained.engine.weights(), **_buffers(trained)}
    moments = trained.engine.moments()
    led(functools.partial(require_finite_state, {**weights, **moments}, step=counters.step))
    generators = gathered(generator_states(trained.device))
    return Checkpoint(
        step=counters.step,
        tensors={
            "weights": weights,
            "optimiser": moments,
            **{_generators(rank): one.tensors for rank, one in enumerate(generators)},
        },
        state={
            "counters": counters.plain(),
            "course": dict(course),
            **{_generators(rank): one.plain for rank, one in enumerate(generators)},
            "fingerprint": dict(fingerprint),
        },
        best_step=best_step,
    )


def restore(checkpoint: Checkpoint, trained: Trained) -> Counters:
    """Puts weights, optimiser and this rank's generators where they stood; returns the counters.

    It does not matter on how many ranks, and with which of them holding what, the checkpoint was written. The
    generators of a rank that it does not know stay as they are.

    Raises:
        CheckpointError: its tensors are not those of this model.
    """
    _restore(checkpoint, trained, checkpoint.tensors["optimiser"])
    own = _generators(world().rank)
    if own in checkpoint.tensors:
        generators = GeneratorStates(checkpoint.tensors[own], checkpoint.state[own])
        restore_generators(generators, trained.device)
    return Counters.of(checkpoint.state["counters"])


def restore_weights(checkpoint: Checkpoint, trained: Trained) -> None:
    """Puts the weights (and persistent buffers) where they stood, nothing else.

    Raises:
        CheckpointError: they are not those of this model.
    """
    _restore(checkpoint, trained, {})


def _restore(checkpoint: Checkpoint, trained: Trained, moments: Mapping[str, Tensor]) -> None:
    saved = checkpoint.tensors["weights"]
    current = {
        name: (shape, trained.parameters[name].dtype) for name, shape in trained.engine.shapes().items()
    }
    current |= {name: (one.shape, one.dtype) for name, one in _buffers(trained).items()}
    strangers = sorted(set(saved) ^ set(current))
    strangers += [
        name for name, one in saved.items() if name in current and (one.shape, one.dtype) != current[name]
    ]
    if strangers:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} is of another model: {', '.join(strangers[:4])} "
            f"{'differs' if len(strangers) == 1 else 'differ'}. Resume with its own model and adapter."
        )
    trained.engine.restore(saved, moments)
    with torch.no_grad():
        for name, buffer in _buffers(trained).items():
            buffer.copy_(saved[name])


def _generators(rank: int) -> str:
    """What a checkpoint calls a rank's generators."""
    return "generators" if rank == 0 else f"generators-{rank}"


def _buffers(trained: Trained) -> dict[str, Tensor]:
    persistent = trained.model.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in trained.model.named_buffers() if name in persistent}
