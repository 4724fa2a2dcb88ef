"""Which device this process computes on, and in which numbers."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from align.report.console import say


def device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    # deepspeed, imported by others, would warn that it found no accelerator
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return torch.device("cpu")


def compute_dtype(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device | str
) -> torch.dtype:
    """What ``training.precision`` means on a device: ``torch.float32`` or ``torch.bfloat16``.

    ``auto`` takes bfloat16 where the device multiplies it fast. Where it only emulates it, an explicit
    ``bfloat16`` is done as told, and one line a process says that it is slow.
    """
    kind = torch.device(device).type
    if precision == "float32":
        return torch.float32
    if multiplies_bfloat16(kind):
        return torch.bfloat16
    if precision == "auto":
        return torch.float32
    _say_slow(kind)
    return torch.bfloat16


def multiplies_bfloat16(kind: str) -> bool:
    """Whether a type of device (``cpu``, ``cuda``) has instructions for products of bfloat16."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # get_capabilities, their public successor, came after the oldest torch that is supported
    return kind == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A forward pass whose matrix products are done in ``dtype``; float32 weights stay as they are.

    Open it around the model only: a loss inside would be summed in bfloat16 as well.
    """
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@functools.cache
def _say_slow(kind: str) -> None:
    say(
        f"note: this {kind} has no instructions for bfloat16 and emulates it: "
        f"training.precision=float32 is faster here"
    )
