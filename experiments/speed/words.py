"""The options of our own commands; light, so that the parent process stays out of the children's way."""

from __future__ import annotations

from pathlib import Path

from align.overrides import quoted
from experiments.speed.figures import PPO_SIDES
from experiments.speed.work import Work, world_facts

MICRO = 8
"""Prompts that go through our models at once while they are trained on the CPU, whose cache is small; on CUDA
a whole minibatch does, as on trl's side."""

TINY = ("stage=dpo", "model=tiny", "dataset=toy", "training.max_steps=20")
"""A run of seconds: the embedded world, a model of 1.6 M weights built on the spot."""
TINY_AXES = {"loss.beta": ("0.05", "0.1", "0.2", "0.4"), "seed": ("1", "2")}
"""Eight of them."""


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


def ppo_words(part: str, side: str, work: Work, world: Path) -> list[str]:
    """The options of ``stage=ppo``: the work that ``ppo_theirs`` asks of trl, by one of ``PPO_SIDES``."""
    how = PPO_SIDES[side]
    scalar = quoted(str(world / part / "scalar"))
    return [
        "model=hf",
        f"model.path={quoted(str(world / 'ppo_policy'))}",
        f"model.max_length={work.prompt_tokens(part) + work.reply}",
        f"dataset={work.dataset}",
        f"dataset.path={quoted(work.data)}",
        f"dataset.limit={world_facts(world)['ppo_limit']}",
        "dataset.too_long=truncate_left",
        "dataset.test_fraction=0",
        "dataset.validation_fraction=0",
        "reward=bradley_terry",
        f"reward.path={scalar}",
        f"sampling.max_new_tokens={work.reply}",
        f"sampling.batch_size={work.rollout}",
        "sampling.temperature=1",
        f"rollout.old_logps={how.old_logps}",
        "rollout.replies=1",
        "score.normalise=none",
        "score.missing_end=none",
        "kl.coef=0.05",
        "kl.estimator=k1",
        "kl.place=reward",
        "advantage.gamma=1",
        "advantage.lam=0.95",
        "advantage.whiten=true",
        "advantage.whiten_rewards=false",
        f"objective.epochs={work.epochs}",
        f"objective.minibatches={work.minibatches}",
        "objective.clip_low=0.2",
        "objective.clip_high=0.2",
        "objective.mean=token",
        f"critic.kind={how.critic}",
        *([f"critic.path={scalar}"] if how.critic == "separate" else []),
        "critic.value_coef=0.1",
        "critic.value_clip=0.2",
        f"training.max_steps={work.episodes // work.rollout}",
        f"training.batch_size={work.rollout}",
        f"training.micro_batch_size={_micro_batch(work)}",
        f"training.learning_rate={work.learning_rate}",
        "training.schedule=constant",
        "training.warmup_steps=0",
        "training.weight_decay=0",
        "training.gradient_checkpointing=false",
        "training.log_every=1",
        f"training.precision={work.precision}",
        f"seed={work.seed}",
    ]


def _micro_batch(work: Work) -> int:
    minibatch = work.rollout // work.minibatches
    return minibatch if work.device == "cuda" else min(MICRO, minibatch)
