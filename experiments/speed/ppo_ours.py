"""Our side of PPO: ``stage=ppo`` by its own command, in this process."""

from __future__ import annotations

from typing import Any

import align.models.scalar
import align.report.figures
import align.stages._rollouts  # noqa: F401
from align.__main__ import main
from align.errors import DataError
from align.report.files import read_metrics
from experiments.speed.ppo_table import PHASES
from experiments.speed.words import ppo_words
from experiments.speed.work import ChildFailed, Job, prompts_of


def measure(job: Job) -> dict[str, Any]:
    """Trains; ``seconds`` are those of all iterations, ``phases`` those of each phase.

    Raises:
        DataError: the tokens that were sampled and trained on are not those that were to be.
    """
    part, side = job.what.split()
    work = job.work
    words = ["stage=ppo", *ppo_words(part, side, work, job.world), f"run.dir={job.directory}"]
    code = main(words)
    if code:
        raise ChildFailed(f"exit code {code} of: python -m align {' '.join(words)}")
    lines = read_metrics(job.directory / "metrics.jsonl")
    sampled = round(sum(line["rollout/length"] for line in lines) * work.rollout)
    prompt_tokens = sum(map(len, prompts_of(job.world, part)))
    expected = (prompt_tokens + sampled) * work.epochs
    if lines[-1]["tokens"] != expected:
        raise DataError(f"trained on {lines[-1]['tokens']} tokens, {part} has {expected}")
    seconds = [work.rollout / line["examples_per_second"] for line in lines]
    return {
        "episodes": len(lines) * work.rollout,
        "seconds": lines[-1]["time"],
        "prompt_tokens": prompt_tokens,
        "sampled_tokens": sampled,
        "trained_tokens": expected,
        "optimiser_steps": round(sum(line["updates"] for line in lines)),
        "score": sum(line["rollout/score"] for line in lines) / len(lines),
        "value_loss": sum(line["value/loss"] for line in lines) / len(lines),
        "mfu": sum(line["mfu"] * span for line, span in zip(lines, seconds, strict=True)) / sum(seconds),
        "phases": {
            phase: sum(line[f"time_share/{phase}"] * span for line, span in zip(lines, seconds, strict=True))
            for phase in PHASES
        },
    }
