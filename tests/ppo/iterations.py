"""Iterations on tiny random models of any architecture, whose tokens are numbers: what the tests share."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from groups import VOCABULARY
from made_rollouts import causal

from align.distributed.engine import Replicated
from align.models.policy import Policy
from align.models.save import plain_model
from align.packing.forward import Forward, Padded
from align.packing.probe import open_forward
from align.ppo.actor import Actor, LinearValue, Together, head_width
from align.ppo.asking import Asking, Questions
from align.ppo.course import Iterations
from align.ppo.estimate import first_memory
from align.ppo.settings import (
    CriticSettings,
    GaeSettings,
    GroupSettings,
    KlSettings,
    ObjectiveSettings,
    Recipe,
    RolloutSettings,
    ScoreSettings,
)
from align.settings import SamplingSettings, TrainingSettings
from align.tensors import TokenExample
from align.training.optimiser import build_optimiser, trainable_parameters
from align.training.state import Trained
from align.training.update import Taken
from align.types import Message

STOPS = tuple(range(30))
"""The tokens that end a reply: a tenth of all, so that replies differ in length."""
LENGTHS = (11, 3, 17, 6, 9, 2)
"""Of the prompts, in tokens: beyond the tiny sliding windows of 8 and below."""
PPO = Recipe(
    RolloutSettings(),
    ScoreSettings(),
    KlSettings(),
    GaeSettings(),
    ObjectiveSettings(epochs=1, minibatches=1),
    CriticSettings(),
)
RLOO = replace(PPO, rollout=RolloutSettings(replies=2), advantage=GroupSettings(), critic=None)
TRAINING = TrainingSettings(batch_size=4, max_steps=3, learning_rate=0.003, max_grad_norm=1e9)


class Counted:
    """Scores a reply by its number of tokens, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def score(self, prompts: Sequence[Any], replies: Sequence[str]) -> list[float]:
        self.asked += [(one[-1].content, reply) for one, reply in zip(prompts, replies, strict=True)]
        return [float(len(reply.split())) for reply in replies]


class Indifferent:
    """Scores every reply alike."""

    def score(self, prompts: Sequence[Any], replies: Sequence[str]) -> list[float]:
        return [0.0] * len(replies)


@dataclass
class Made:
    """Iterations, and what they train."""

    course: Iterations
    trained: Trained

    def take(self, step: int = 1) -> dict[str, float]:
        """The metrics of one iteration, as a line would show them."""
        return means(self.course.take(step, self.trained, lambda _phase: None))


def means(taken: Taken) -> dict[str, float]:
    return {name: value / count for name, (value, count) in taken.metrics.items()}


def policy_over(model: Any) -> Policy:
    """A policy whose tokens are numbers: ``STOPS`` end a reply, a text names its tokens."""
    chat = SimpleNamespace(stop_ids=STOPS, decode_reply=lambda ids: " ".join(map(str, ids)))
    tokenizer = SimpleNamespace(pad_token_id=0)
    return Policy(model, cast(Any, tokenizer), cast(Any, chat), model.device, 64, lambda: None)


def _forward(model: Any, padded_with: int | None, dtype: torch.dtype) -> Forward:
    forward: Any = open_forward(model, 0, dtype=dtype, say=lambda _line: None)
    if padded_with is None:
        return cast(Forward, forward)
    return Padded(model, padded_with, forward.cost, dtype)


def drop(model: torch.nn.Module, rate: float) -> None:
    """Writes the rate of dropout into every module, as ``model.dropout`` does into the config."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = rate


def questions() -> Questions:
    """Prompts of ``LENGTHS`` whose text names their tokens."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(VOCABULARY, size=length, dtype=np.int32) for length in LENGTHS]
    return Questions([(Message("user", " ".join(map(str, one))),) for one in ids], ids)


def demonstrations(count: int = 5) -> list[TokenExample]:
    """Made-up replies to imitate, of different lengths."""
    rng = np.random.default_rng(1)

    def draw(length: int) -> Any:
        return rng.integers(VOCABULARY, size=length, dtype=np.int32)

    return [TokenExample(str(one), draw(3 + one), draw(2 + 3 * one)) for one in range(count)]


def iterations(
    recipe: Recipe = PPO,
    *,
    architecture: str = "llama",
    lora: bool = False,
    temperature: float = 0.7,
    trained_at: float | None = None,
    dropout: float = 0.0,
    padded_with: int | None = None,
    scorer: Any = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    **training: Any,
) -> Made:
    """Iterations of four prompts, replies of twelve tokens at most; the reference is the start.

    ``trained_at`` is the temperature of the update and the reference, where it is to be another one;
    ``padded_with`` a token that fills rows of one reply each, where nothing is to be packed.
    """
    model = causal(architecture, lora=lora).to(device)
    drop(model, dropout)
    policy = policy_over(model)
    forward, start = (_forward(one, padded_with, dtype) for one in (model, copy.deepcopy(model).eval()))

    @contextmanager
    def reference() -> Iterator[Forward]:
        with torch.no_grad():
            yield start

    head = LinearValue(head_width(plain_model(model))) if recipe.critic else None
    actor = Actor(Together(model, head), forward, trained_at or temperature, value_head=head)
    settings = replace(TRAINING, **training)
    sampling = SamplingSettings(max_new_tokens=12, temperature=temperature, batch_size=3)
    course = Iterations(
        asking=Asking(policy, scorer or Counted(), questions(), sampling, recipe.rollout.replies, seed=0),
        actor=actor,
        reference=reference if recipe.asks_reference else None,
        demonstrations=demonstrations() if recipe.objective.ptx_coef else None,
        recipe=recipe,
        training=settings,
        memory=first_memory(recipe.kl),
    )
    torch.manual_seed(0)
    actor.model.to(device).train()
    parameters = trainable_parameters(actor.model)
    engine = Replicated(parameters, build_optimiser(parameters, settings))
    return Made(course, Trained(actor.model, parameters, engine, policy.device))
