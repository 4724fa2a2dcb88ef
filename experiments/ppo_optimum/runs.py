"""The stages themselves on a task: one command each, then the exact distance of what they wrote."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
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


COMMON = (
    "reward=function",
    "reward.call=experiments.ppo_optimum.task.reward",
    "dataset=demonstrations",
    "dataset.test_fraction=0",
    "dataset.validation_fraction=0",
    "model=hf",
    "model.max_length=16",
    "training.schedule=cosine",
    "training.precision=float32",
    "training.batch_size=256",
    "training.log_every=20",
)

METHODS = (
    Method(
        "ppo",
        "kl.coef",
        ("score.normalise=none", "advantage.lam=1", "objective.epochs=2", "objective.minibatches=2"),
    ),
    Method("rloo", "kl.coef", ("rollout.replies=16", "objective.minibatches=2", "training.batch_size=16")),
    Method("online_dpo", "loss.beta", ("online.labels=bradley_terry",)),
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
            "options": list(self.method.words),
            "seed": self.seed,
            "distance": dataclasses.asdict(self.distance),
            "within": self.within,
        }


def retyped(word: str, method: Method) -> bool:
    """Whether a method has a value of its own for an option."""
    return any(own.startswith(f"{word.partition('=')[0]}=") for own in method.words)


def reached(task: Task, method: Method, seed: int, work: Path, *more: str) -> Reached:
    """Runs a stage on a task and measures the policy that it wrote.

    Raises:
        AlignError: the run failed.
    """
    start = work / f"policy-{task.length}"
    if not start.exists():
        write_policy(task, start)
        write_prompts(work / "prompts.jsonl")
    run = work / f"{method.name}-{task.length}-{seed}"
    words = [
        f"stage={method.name}",
        f"run.dir={run}",
        f"run.cache={work / 'cache'}",
        f"model.path={start}",
        f"dataset.path={work / 'prompts.jsonl'}",
        f"sampling.max_new_tokens={task.length}",
        "sampling.batch_size=1024",
        f"{method.price}={task.beta}",
        f"seed={seed}",
        f"training.max_steps={task.iterations}",
        f"training.learning_rate={task.learning_rate}",
    ]
    code = main([*words, *(word for word in COMMON if not retyped(word, method)), *method.words, *more])
    if code:
        raise AlignError(f"stage={method.name} on the task of {task.name} ended with exit code {code}")
    return Reached(task, method, seed, outcomes(task, start), outcomes(task, run / "model"))
