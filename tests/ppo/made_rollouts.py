"""Actors on tiny random models, and rollouts whose replies were made up: what the tests of updates share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from groups import VOCABULARY, made_up
from peft import LoraConfig, get_peft_model
from tiny_architectures import random_causal

from align.models.build import quiet, seeded
from align.models.save import plain_model
from align.packing.forward import Forward, Padded
from align.packing.probe import open_forward
from align.ppo.actor import Actor, LinearValue, Together, head_width
from align.ppo.advantages import Advantages
from align.ppo.rollout import Rollout
from align.ppo.settings import CriticSettings, KlSettings, ObjectiveSettings
from align.ppo.update import Clipped, Share
from align.tensors import Outlook, SampledReply, TokenLogps

GROUPS = made_up((11, (9, 13)), (3, (1, 7)), (17, (20, 2)), (6, (5, 4)))
"""Four prompts with two replies each, of one token and of twenty."""
ALL = [Share(one) for one in range(len(GROUPS))]
TARGETS = {"gpt2": ["c_attn", "c_proj"], "gpt_neox": ["query_key_value"]}


def causal(architecture: str, *, lora: bool = False) -> Any:
    """A random causal model, with a random adapter where asked for."""
    base = random_causal(architecture, VOCABULARY)
    if not lora:
        return base
    targets = TARGETS.get(architecture, ["q_proj", "v_proj", "fc1" if architecture == "opt" else "up_proj"])
    with seeded(1), quiet():
        return get_peft_model(base, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))


def actor_on(model: Any, *, temperature: float = 0.8, critic: bool = True, padded: bool = False) -> Actor:
    """The model with a value head of random weights."""
    head = None
    if critic:
        head = LinearValue(head_width(plain_model(model)))
        with seeded(2), torch.no_grad():
            head.linear.weight.normal_(std=0.3)
    forward: Forward = open_forward(model, 0, say=lambda _line: None)
    if padded:
        forward = Padded(model, 0, forward.cost, torch.float32)  # type: ignore[attr-defined]
    return Actor(Together(model, head), forward, temperature, value_head=head)


def rolled_out(actor: Actor, groups: Any = GROUPS, *, size: int | None = None) -> Rollout:
    """What the actor says of the made-up replies, ``size`` prompts at a time; no reference."""
    with torch.no_grad():
        outlook = together([actor.look(part) for part in parts(groups, size or len(groups))])
    replies = tuple(
        SampledReply("", tuple(group.replies[order].tolist()), ended=True)
        for order in range(len(groups[0].replies))
        for group in groups
    )
    return Rollout(
        groups=tuple(groups),
        replies=replies,
        scores_N=torch.linspace(-1, 1, len(replies)),
        ended_N=torch.ones(len(replies), dtype=torch.bool),
        old=outlook.logps,
        reference=None,
        values_NT=outlook.values_BT,
    )


def parts(groups: Any, size: int) -> list[Any]:
    """The groups, ``size`` at a time."""
    return [groups[start : start + size] for start in range(0, len(groups), size)]


def together(outlooks: list[Outlook]) -> Outlook:
    """Parts of prompts with two replies each, put together as ``Rollout`` numbers its rows."""
    if len(outlooks) == 1:
        return outlooks[0]
    width = max(one.logps.mask_BT.shape[1] for one in outlooks)

    def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
        wide = [torch.nn.functional.pad(one, (0, width - one.shape[1])) for one in tensors]
        halves = [one.chunk(2) for one in wide]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])

    logps = TokenLogps(
        joined([one.logps.logps_BT for one in outlooks]), joined([one.logps.mask_BT for one in outlooks])
    )
    values = [one.values_BT for one in outlooks if one.values_BT is not None]
    return Outlook(logps, joined(values) if values else None)


def advantages(rollout: Rollout, seed: int = 5) -> Advantages:
    """Made-up advantages and returns, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    mask = rollout.mask_NT
    made = [torch.randn(mask.shape, generator=generator) * mask for _ in range(2)]
    return Advantages(*made)


def clipped(actor: Actor, rollout: Rollout, **changes: Any) -> Clipped:
    """The objective over all prompts as one minibatch."""
    kl = changes.pop("kl", KlSettings())
    found = changes.pop("advantages", None) or advantages(rollout)
    minibatch = changes.pop("minibatch", ALL)
    return Clipped(
        actor=actor,
        rollout=rollout,
        advantages=found,
        objective=replace(ObjectiveSettings(), **changes),
        kl=kl,
        kl_coef=kl.coef,
        critic=CriticSettings() if actor.has_critic else None,
        length=20,
        minibatch=minibatch,
        untouched=True,
    )
