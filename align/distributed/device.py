"""Which device this process computes on."""

from __future__ import annotations

import os

import torch


def device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    # deepspeed, imported by others, would warn that it found no accelerator
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return torch.device("cpu")


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
