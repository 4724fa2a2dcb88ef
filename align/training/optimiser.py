"""AdamW over what is trainable, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch.nn import Module, Parameter

from align.errors import ModelError
from align.report.console import say
from align.settings import TrainingSettings


def trainable_parameters(model: Module) -> dict[str, Parameter]:
    """Name -> parameter, for those that require a gradient; tied ones once.

    Raises:
        ModelError: none does.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ModelError(f"{type(model).__name__} has no trainable parameter: every one is frozen")
    return found


def build_optimiser(parameters: Mapping[str, Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), decoupled decay on matrices only: norms and biases are left alone."""
    matrices = [parameter for parameter in parameters.values() if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters.values() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    first, second = settings.adam_betas
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(first, second),
        fused=True,  # one pass over memory instead of ten; on CPUs, too
    )


def learning_rate(
    step: int,
    total: int,
    *,
    peak: float,
    warmup: int,
    schedule: Literal["constant", "linear", "cosine"],
) -> float:
    """The rate of a step (1-based) out of ``total``.

    It rises on a line that is zero just before the first step and ``peak`` at the first step after the
    warm-up, then stays, or falls to zero just after the last step: no step is spent at a rate of zero.
    """
    done = step - 1
    if done < warmup:
        return peak * (done + 1) / (warmup + 1)
    left = (total - done) / (total - warmup)
    if schedule == "constant":
        return peak
    if schedule == "linear":
        return peak * left
    return peak * (1.0 - math.cos(math.pi * left)) / 2.0


def say_if_it_never_peaks(settings: TrainingSettings, total: int) -> None:
    """Tells of a warm-up that is as long as the run: the rate then neither arrives nor falls."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if total <= warmup:
        top = learning_rate(total, total, peak=peak, warmup=warmup, schedule=settings.schedule)
        say(
            f"note: training.warmup_steps={warmup} takes all {total} steps: the rate only rises, to {top:g} "
            f"instead of {peak:g}; lower it, or train for longer"
        )
