"""The stages themselves on a task: one command each, then the exact distance of what they wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.__main__ import main
from align.errors import AlignError
from experiments.ppo_optimum.task import (
    Distance,
    Outcomes,
    Task,
    distance,
    outcomes,
    write_policy,
    write_prompts,
)

LARGEST_KL, LARGEST_GAP = 5e-3, 1e-3
"""Bounds of TRUTHS: KL to the optimum in nats, and what the objective may fall short by."""


@dataclass(frozen=True)
class Method:
    """A stage and the options that the tasks take beside their own."""

    name: str
    price: str
    """The option that takes the task's beta."""
    words: tuple[str, ...]
    unit: float = 1.0
    """What the rewards are divided by before the stage sees them, and so beta, too."""
    by_length: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Further options, by the length of a task's replies."""

    def words_for(self, task: Task) -> tuple[str, ...]:
        """All options of its own on a task."""
        return (*self.words, *self.by_length.get(task.length, ()))


COMMON = (
    "reward=function",
    "reward.call=experiments.ppo_optimum.task.reward",
    "dataset=demonstrations",
    "dataset.test_fraction=0",
    "dataset.validation_fraction=0",
    "model=hf",
    "model.max_length=16",
    "sampling.batch_size=1024",
    "training.learning_rate=0.001",
    "training.schedule=cosine",
    "training.warmup_steps=0",
    "training.adam_betas=[0.9,0.95]",
    "training.precision=float32",
    "training.micro_batch_size=null",
    "training.attention=padded",
    "training.log_every=20",
)
"""The rate falls to zero, and Adam's memory of squared gradients is short, as they shrink by orders of
magnitude. A pass holds a whole minibatch, padded: so small a model spends its time on calls."""

# The whole return as the advantage, in the reward's unit: at the optimum it is 0 whatever the reply, so that
# the gradient's noise ends with the gradient. Whitening would blow it up to 1.
PPO = ("score.normalise=none", "advantage.lam=1", "advantage.whiten=false")

METHODS = (
    Method("ppo", "kl.coef", (*PPO, "objective.epochs=2", "rollout.replies=4", "training.batch_size=256")),
    Method("rloo", "kl.coef", ("objective.epochs=2", "rollout.replies=64", "training.batch_size=16")),
    # A label stays a draw at the optimum: what is left is the noise of the last pairs, so there are many, and
    # at half the temperature each says more.
    Method(
        "online_dpo",
        "loss.beta",
        (
            "online.labels=bradley_terry",
            "online.label_temperature=0.5",
            "training.batch_size=2048",
        ),
        unit=0.5,
        by_length={
            1: ("training.max_steps=300", "training.learning_rate=0.002"),
            3: ("training.max_steps=2000", "online.minibatches=8"),
        },
    ),
)


@dataclass(frozen=True)
class Reached:
    """Where one run ended."""

    task: Task
    method: Method
    seed: int
    reference: Outcomes
    policy: Outcomes

    @property
    def distance(self) -> Distance:
        """How far the policy is from the optimum."""
        return distance(self.task, self.reference, self.policy)

    @property
    def within(self) -> bool:
        """Whether it is the optimum, as far as the bounds ask."""
        found = self.distance
        return found.kl < LARGEST_KL and found.best - found.objective < LARGEST_GAP

    def plain(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "task": dataclasses.asdict(self.task),
            "stage": self.method.name,
            "options": list(self.method.words_for(self.task)),
            "seed": self.seed,
            "distance": dataclasses.asdict(self.distance),
            "within": self.within,
        }


def retyped(word: str, own: Sequence[str]) -> bool:
    """Whether an option stands among others with another value."""
    return any(other.startswith(f"{word.partition('=')[0]}=") for other in own)


def prepare(task: Task, work: Path) -> Path:
    """The task's policy before training, and the prompt, written where they are not there yet."""
    start = work / f"policy-{task.length}"
    if not start.exists():
        write_policy(task, start)
        write_prompts(work / "prompts.jsonl")
    return start


def reached(task: Task, method: Method, seed: int, work: Path, *more: str) -> Reached:
    """Runs a stage on a task, or what is left of that run, and measures the policy that it wrote.

    Raises:
        AlignError: the run failed.
    """
    start = prepare(task, work)
    run = work / f"{method.name}-{task.length}-{seed}"
    words = [
        f"stage={method.name}",
        f"run.dir={run}",
        f"run.cache={work / 'cache'}",
        f"model.path={start}",
        f"dataset.path={work / 'prompts.jsonl'}",
        f"sampling.max_new_tokens={task.length}",
        f"{method.price}={task.beta / method.unit}",
        f"seed={seed}",
        "resume=true",
    ]
    given = (*COMMON, f"training.max_steps={task.iterations}")
    own = method.words_for(task)
    code = main([*words, *(word for word in given if not retyped(word, own)), *own, *more])
    if code:
        raise AlignError(f"stage={method.name} on the task of {task.name} ended with exit code {code}")
    return Reached(task, method, seed, outcomes(task, start), outcomes(task, run / "model"))
