"""One measurement in a process of its own: ``python -m experiments.speed.child JOB``, JOB as JSON.

Imports what the job needs, then does it; the last line on stdout is what came out, as JSON. Everything that
the libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import redirect_stdout
from typing import Any

from experiments.speed import memory
from experiments.speed.work import Job

LATE = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "deepspeed",
    "hydra",
    "pandas",
)
"""What one side or the other imports while it works, or while it saves: both have it before memory counts."""


def main(text: str) -> dict[str, Any]:
    """Does the job; adds ``peak_mb``, the memory above the level after imports (the device's own on CUDA)."""
    job = Job.of(text)
    with redirect_stdout(sys.stderr):
        room = importlib.import_module(f"experiments.speed.{job.role}")
        import torch

        from align.distributed.device import device

        device()  # tells deepspeed where it is, before it looks for itself
        for name in LATE:
            importlib.import_module(name)
        level = memory.level()
        measured: dict[str, Any] = room.measure(job)
        if job.work.device == "cuda":
            peak = torch.cuda.max_memory_allocated() / 1e6
        else:
            peak = memory.peak() - level
    return {**measured, "peak_mb": peak, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1]), allow_nan=False))
