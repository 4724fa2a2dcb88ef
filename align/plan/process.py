"""What a training process takes of a processor's memory before there is a model: its libraries, warm."""

from __future__ import annotations

import functools
import resource
from pathlib import Path

import numpy as np
import torch

from align.models.policy import load_policy
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.packing.layout import ReplyGroup
from align.packing.probe import open_forward
from align.training.throughput import peak_flops


@functools.cache
def alone() -> int:
    """Resident bytes of this process after it has trained a model of no size.

    A process that does the same things first is the same size then: libraries are there, their kernels are
    made, and the matrices of the speed test are gone.
    """
    import datasets  # noqa: F401  (what a training reads its data with)

    import align.stages._rollouts  # noqa: F401

    shape = ScratchSettings(hidden_size=32, layers=1, heads=2, mlp_size=48, vocab_size=300)
    model = ModelSettings(scratch=shape, max_length=32)
    policy = load_policy(model, AdapterSettings(), texts=lambda: iter(["some words"] * 50), seed=0)
    forward = open_forward(policy.model, policy.pad_id, say=lambda _line: None)
    ids = np.full(8, 3, dtype=np.int32)
    optimiser = torch.optim.AdamW(policy.model.parameters(), fused=True)
    forward.logps([ReplyGroup(ids, (ids, ids))]).sums_B().sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    peak_flops(policy.device, torch.float32)
    return resident()


def resident() -> int:
    """Bytes of this process that are in memory now (its most so far, where the system does not tell)."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
