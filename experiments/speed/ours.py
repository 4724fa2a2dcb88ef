"""Our side: a stage by its own command, in this process. Its clock is the one in ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import align.models.policy
import align.models.scalar
import align.report.figures
import align.stages._common
import align.training.objectives  # noqa: F401
from align.__main__ import main
from align.report.files import read_metrics
from align.run import read_record
from experiments.speed.words import stage_words
from experiments.speed.work import ChildFailed, Job


def measure(job: Job) -> dict[str, Any]:
    """Trains by ``stage=dpo`` or ``stage=reward``.

    ``seconds`` are those of the training loop and of the reference before it (``reference_seconds``): its
    pass over the ``reference_computed`` pairs that the cache lacks, and finding the others there. ``losses``
    are those of each step, ``mfu`` is the share of the device's peak over the whole loop.
    """
    words = [f"stage={job.what}", *stage_words(job.what, job.work, job.world), f"run.dir={job.directory}"]
    code = main(words)
    if code:
        raise ChildFailed(f"exit code {code} of: python -m align {' '.join(words)}")
    lines = read_metrics(job.directory / "metrics.jsonl")
    reference = (read_record(job.directory) or {}).get("reference", {"seconds": 0.0, "computed": 0})
    return {
        "pairs": len(lines) * job.work.batch_size,
        "seconds": lines[-1]["time"] + reference["seconds"],
        "reference_seconds": reference["seconds"],
        "reference_computed": reference["computed"],
        "losses": [line["loss"] for line in lines],
        "mfu": overall_mfu(lines),
    }


def overall_mfu(lines: Sequence[Mapping[str, Any]]) -> float:
    """Model FLOP/s over the peak, over all steps.

    A line's share is over the time that its step took, which its pairs a second tell; every line is of one
    batch, so the mean over time is the whole's.
    """
    spans = [1.0 / float(line["examples_per_second"]) for line in lines]
    shares = [float(line["mfu"]) for line in lines]
    return sum(share * span for share, span in zip(shares, spans, strict=True)) / sum(spans)
