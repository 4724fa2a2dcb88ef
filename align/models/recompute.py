"""Gradient checkpointing, by whatever name a model has it."""

from __future__ import annotations

from torch.nn import Module

from align.errors import ModelError


def recompute_activations(model: Module) -> None:
    """Turns on gradient checkpointing, which acts in train mode only."""
    # The reentrant kind needs inputs that require a gradient, which frozen embeddings under LoRA do not.
    options = {"use_reentrant": False}
    enable = getattr(model, "activation_checkpointing_enable", None)
    former = getattr(model, "gradient_checkpointing_enable", None)  # its name before transformers 5.23
    try:
        if callable(enable):
            enable(activation_checkpointing_kwargs=options)
        elif callable(former):
            former(gradient_checkpointing_kwargs=options)
        else:
            raise ValueError("it has no such method")
    except ValueError as error:
        raise ModelError(
            f"{type(model).__name__} cannot recompute activations ({error}): "
            f"set training.gradient_checkpointing=false"
        ) from error
