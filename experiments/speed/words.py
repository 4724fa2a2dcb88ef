"""The options of our own commands; light, so that the parent process stays out of the children's way."""

from __future__ import annotations

from pathlib import Path

from align.overrides import quoted
from experiments.speed.work import Work, world_facts


def stage_words(stage: str, work: Work, world: Path) -> list[str]:
    """The options of our command: the same work as ``theirs`` asks of trl."""
    facts = world_facts(world)
    return [
        "model=hf",
        f"model.path={quoted(str(world / ('scalar' if stage == 'reward' else 'policy')))}",
        f"model.max_length={work.max_length}",
        f"dataset={work.dataset}",
        f"dataset.path={quoted(work.data)}",
        f"dataset.limit={facts['limit']}",
        "dataset.too_long=drop",
        "dataset.test_fraction=0",
        "dataset.validation_fraction=0",
        f"training.max_steps={facts['pairs'] // work.batch_size}",
        f"training.batch_size={work.batch_size}",
        f"training.micro_batch_size={work.batch_size}",
        "training.length_window=1",
        f"training.learning_rate={work.learning_rate}",
        "training.schedule=constant",
        "training.warmup_steps=0",
        "training.weight_decay=0",
        "training.max_grad_norm=1",
        "training.gradient_checkpointing=false",
        "training.log_every=1",
        *([f"loss.beta={work.beta}"] if stage == "dpo" else []),
        f"training.precision={work.precision}",
        f"seed={work.seed}",
    ]
