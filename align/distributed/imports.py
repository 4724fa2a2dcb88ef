"""What saving a model imports by way of accelerate, imported ahead of time."""

from __future__ import annotations

import importlib
import os


def load_engines() -> None:
    """Imports deepspeed where there is no CUDA; where there may be, it would look for devices."""
    import torch
    from accelerate.utils import is_deepspeed_available

    if torch.version.cuda is None:
        # it would warn that it found no accelerator
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        if is_deepspeed_available():
            importlib.import_module("deepspeed")
