"""What must be the same for a checkpoint to be continued: whatever changes the path that training takes."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from align.distributed.device import compute_dtype
from align.distributed.world import world
from align.errors import CheckpointError
from align.settings import DeepspeedSettings, TrainingSettings

_SETTINGS = (
    "batch_size",
    "shuffle",
    "length_window",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "adam_betas",
    "max_grad_norm",
    "gradient_checkpointing",
    "attention",
)
_log = logging.getLogger(__name__)

_WHERE_SET = ("frozen", "unfreeze_every", "compile")
"""These came later: they are told where they are set, so that older checkpoints still fit."""

ROUNDING = (
    "training.micro_batch_size",
    "training.gradient_checkpointing",
    "training.attention",
    "training.compile",
    "torch",
    "device",
    "threads",
    "ranks",
    "deepspeed.stage",
)
"""These change the path by rounding only: they may differ (a full memory is a reason), with a warning."""


def fingerprint_of(
    *,
    settings: TrainingSettings,
    seed: int,
    stage: str,
    total_steps: int,
    items: int,
    parameters: Mapping[str, Tensor],
    device: torch.device,
    deepspeed: DeepspeedSettings,
    more: Mapping[str, str],
) -> dict[str, str]:
    """Name -> value. ``more`` is the stage's own (data, loss, reference); its names win."""
    found = {f"training.{name}": str(getattr(settings, name)) for name in _SETTINGS}
    later = {name: getattr(settings, name) for name in _WHERE_SET}
    found |= {f"training.{name}": str(value) for name, value in later.items() if value}
    ranks = world().size
    found["training.micro_batch_size"] = str(
        settings.micro_batch_size or math.ceil(settings.batch_size / ranks)
    )
    if ranks > 1:
        found["ranks"] = str(ranks)
    if deepspeed.stage:
        found["deepspeed.stage"] = str(deepspeed.stage)
    found["training.precision"] = str(compute_dtype(settings.precision, device)).removeprefix("torch.")
    if settings.schedule != "constant":
        found["steps"] = str(total_steps)
    found |= {"seed": str(seed), "stage": stage, "training examples": str(items)}
    shapes = "\n".join(f"{name} {tuple(one.shape)} {one.dtype}" for name, one in parameters.items())
    found["trainable parameters"] = hashlib.sha256(shapes.encode()).hexdigest()[:16]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found |= {"torch": torch.__version__, "device": name, "threads": str(torch.get_num_threads())}
    return found | dict(more)


def refuse_misfit(saved: Mapping[str, str], current: Mapping[str, str], step: int) -> None:
    """Stops where a checkpoint belongs to another run than the one that wants to continue from it.

    Raises:
        CheckpointError: lists what differs, then and now.
    """
    names = sorted(saved.keys() | current.keys())
    differing = {
        name: f"{name} was {saved.get(name, 'unset')}, now {current.get(name, 'unset')}"
        for name in names
        if saved.get(name) != current.get(name)
    }
    told = [text for name, text in differing.items() if name not in ROUNDING]
    if told:
        raise CheckpointError(
            "\n  ".join([f"the checkpoint of step {step} does not fit this run:", *told])
            + "\nResume with what it was started with, or start anew in another run.dir."
        )
    if differing:
        _log.warning(
            "resuming from step %d up to rounding, not bit for bit: %s", step, "; ".join(differing.values())
        )
