"""What one minibatch of an iteration is trained on: the clipped objective, the critic, the other terms.

Legend: B prompts, N replies, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from align.distributed.world import of_first
from align.ppo.actor import Actor
from align.ppo.advantages import Advantages
from align.ppo.objective import policy_terms, total, value_losses_NT, weight
from align.ppo.rollout import Rollout
from align.ppo.settings import CriticSettings, KlSettings, ObjectiveSettings
from align.ppo.shaping import kl_NT
from align.tensors import Outlook, TokenExample, Work
from align.training.objectives import grouped
from align.training.update import Step

Metrics = dict[str, tuple[float | Tensor, float]]


@dataclass(frozen=True)
class Share:
    """One prompt's part of a minibatch: its number in the rollout, and what is imitated beside it."""

    prompt: int
    demonstration: TokenExample | None = None


@dataclass(frozen=True, eq=False)
class Clipped:
    """The objective of one minibatch (Schulman et al. 2017, eq. 9, with the KL, entropy and ptx terms).

    loss = policy + value_coef * value - entropy_coef * entropy [+ kl_coef * KL] [+ ptx_coef * NLL], each a
    mean over the minibatch by ``objective.mean``; the last over imitated tokens.
    """

    actor: Actor
    rollout: Rollout
    advantages: Advantages
    objective: ObjectiveSettings
    kl: KlSettings
    kl_coef: float
    critic: CriticSettings | None
    length: int
    """Tokens of the longest reply that could be, for ``mean=fixed_length``."""
    minibatch: Sequence[Share]
    untouched: bool = False
    """Whether no weight has changed since the replies were sampled."""

    def weight(self, items: Sequence[Share]) -> float:
        """What the minibatch's loss is divided by."""
        mask_NT = self.rollout.part(self.rollout.mask_NT, [one.prompt for one in items])
        return weight(mask_NT, self.objective.mean, self.length)

    def __call__(self, items: Sequence[Share]) -> Step:
        """The forward pass over one micro-batch."""
        prompts = [one.prompt for one in items]
        groups = [self.rollout.groups[one] for one in prompts]
        outlook = self.actor.look(groups, entropies=self.objective.entropy_coef > 0)
        mask_NT = outlook.logps.mask_BT
        loss, metrics = self._policy(prompts, outlook)
        if self.critic is not None:
            value_loss, more = self._value(prompts, outlook, self.critic)
            loss, metrics = loss + self.critic.value_coef * value_loss, metrics | more
        if self.kl.place == "loss" and self.rollout.reference is not None:
            reference_NT = self.rollout.part(self.rollout.reference.logps_BT, prompts)
            drift_NT = kl_NT(outlook.logps.logps_BT, reference_NT, self.kl.estimator, mask_NT)
            loss = loss + self.kl_coef * self._total(drift_NT, mask_NT)
        if outlook.entropies_BT is not None:
            loss = loss - self.objective.entropy_coef * self._total(outlook.entropies_BT, mask_NT)
            metrics["policy/entropy"] = (outlook.entropies_BT.sum().detach(), float(mask_NT.sum()))
        work = self.actor.work(groups)
        if self.objective.ptx_coef:
            nll, more, extra = self._imitation(items)
            loss, metrics, work = loss + self.objective.ptx_coef * nll, metrics | more, work + extra
        return Step(loss_sum=loss, metrics=metrics, work=work)

    def _policy(self, prompts: Sequence[int], outlook: Outlook) -> tuple[Tensor, Metrics]:
        logps_NT, mask_NT = outlook.logps.logps_BT, outlook.logps.mask_BT
        settings, part = self.objective, self.rollout.part
        old_NT = part(self.rollout.old.logps_BT, prompts)
        terms = policy_terms(
            logps_NT,
            old_NT,
            part(self.advantages.advantages_NT, prompts),
            mask_NT,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            dual_clip=settings.dual_clip,
            ratio=settings.ratio,
            form=settings.form,
            weights_NT=None if self.rollout.weights_NT is None else part(self.rollout.weights_NT, prompts),
        )
        tokens, loss = float(mask_NT.sum()), self._total(terms.losses_NT, mask_NT)
        metrics: Metrics = {
            "policy/loss": (loss.detach(), self.weight([Share(one) for one in prompts])),
            "policy/approx_kl": (terms.kl_NT.sum(), tokens),
            "policy/clip_fraction": (terms.clipped_NT.sum(), tokens),
            "policy/ratio": (terms.ratio_NT.sum(), tokens),
        }
        if self.untouched:
            gap = (logps_NT - old_NT).detach().abs().masked_fill(~mask_NT, 0.0).max()
            metrics["rollout/logps_gap"] = (gap, 1.0)
        return loss, metrics

    def _value(
        self, prompts: Sequence[int], outlook: Outlook, critic: CriticSettings
    ) -> tuple[Tensor, Metrics]:
        assert outlook.values_BT is not None, "a critic without values"
        assert self.rollout.values_NT is not None, "a critic that was not asked"
        mask_NT, part = outlook.logps.mask_BT, self.rollout.part
        losses_NT, clipped_NT = value_losses_NT(
            outlook.values_BT,
            part(self.rollout.values_NT, prompts),
            part(self.advantages.returns_NT, prompts),
            critic.value_clip,
            mask_NT,
        )
        loss = self._total(losses_NT, mask_NT)
        return loss, {
            "value/loss": (loss.detach(), self.weight([Share(one) for one in prompts])),
            "value/clip_fraction": (clipped_NT.sum(), float(mask_NT.sum())),
        }

    def _imitation(self, items: Sequence[Share]) -> tuple[Tensor, Metrics, Work]:
        """Negative log-likelihood of the micro-batch's demonstrations, in the minibatch's own unit."""
        groups = grouped([one.demonstration for one in items if one.demonstration is not None])
        nll = -self.actor.forward.logps(groups).sums_B().sum()
        imitated = [one.demonstration for one in self.minibatch if one.demonstration is not None]
        tokens = sum(len(one.reply_ids) for one in imitated)
        own = float(sum(len(reply) for group in groups for reply in group.replies))
        metrics: Metrics = {"policy/ptx_loss": (nll.detach(), own)}
        # the step divides by the minibatch's weight, and this term is a mean over imitated tokens
        return nll * (self.weight(self.minibatch) / tokens), metrics, self.actor.forward.work(groups)

    def _total(self, values_NT: Tensor, mask_NT: Tensor) -> Tensor:
        return total(values_NT, mask_NT, self.objective.mean, self.length)


def mean_of(metrics: Mapping[str, tuple[float, float]], name: str) -> float:
    """A metric's mean in what became of a step."""
    value, count = metrics[name]
    return value / count


def summed(steps: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """The metrics of several optimiser steps as those of one: sums, and what they count."""
    sums: dict[str, tuple[float, float]] = {}
    for metrics in steps:
        for name, (value, count) in metrics.items():
            before, counted = sums.get(name, (0.0, 0.0))
            sums[name] = (before + value, counted + count)
    return sums


def minibatches(order: Sequence[int], parts: int) -> list[list[int]]:
    """An order in equal parts; ``parts`` divides it."""
    size = len(order) // parts
    return [list(order[start : start + size]) for start in range(0, size * parts, size)]


def shuffled(count: int) -> list[int]:
    """The prompts of an iteration in a random order, from the global generator."""
    order: list[int] = of_first(torch.randperm(count).tolist())
    return order
