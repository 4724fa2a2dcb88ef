"""What most jobs import, imported once: jobs are forked from a process that has it.

Nothing is computed here and no CUDA device opened: threads of a pool, and a driver's state, do not survive a
fork. What a job needs besides, it imports itself.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import Any, cast

MODULES = (
    "align.models.policy",
    "align.models.scalar",
    "align.report.figures",
    "align.stages._common",
    "align.stages._reference",
    "align.training.objectives",
    "matplotlib.backends.backend_agg",
    "pandas",
    "transformers.models.llama.modeling_llama",
)
"""Found by listing what a job of ``stage=dpo model=tiny`` still imported; a test keeps it so."""


def warm() -> bool:
    """Imports; then keeps the collector off what is shared, which it would copy by looking at it.

    Returns whether jobs may be forked from here: not where some library has opened a CUDA device.
    """
    # else asking whether there is CUDA would start its driver, and children could not use it
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    import torch

    opened: bool = cast(Any, torch.cuda).is_initialized()
    return not opened
