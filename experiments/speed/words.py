"""The options of our own commands; light, so that the parent process stays out of the children's way."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from align.compose import quoted
from align.errors import ConfigError
from align.settings import TrainingSettings
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
        *precision_words(work),
        f"seed={work.seed}",
    ]


def precision_words(work: Work) -> list[str]:
    """The option that sets the precision.

    Raises:
        ConfigError: this version trains in float32 only, and something else is asked.
    """
    if "precision" in {field.name for field in fields(TrainingSettings)}:
        return [f"training.precision={work.precision}"]
    if work.precision != "float32":
        raise ConfigError(f"there is no setting for --precision {work.precision} yet: float32 only")
    return []
