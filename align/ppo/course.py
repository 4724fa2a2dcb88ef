"""One iteration of PPO and its kin as a step of the training loop: sample, score, judge, estimate, update.

Legend: B prompts, R replies to each, N = R * B replies, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.distributed.world import shared_out
from align.evaluation.compare import distinct
from align.models.policy import evaluating
from align.packing.forward import Forward
from align.packing.layout import ReplyGroup
from align.ppo.actor import Actor
from align.ppo.asking import Asking
from align.ppo.estimate import Estimate, Memory, drift, estimate
from align.ppo.objective import explained_variance, importance_weights
from align.ppo.rollout import Rollout, by_reply, grouped_replies, in_parts, sampled_logps
from align.ppo.served import server_distance
from align.ppo.settings import Recipe
from align.ppo.update import Clipped, Share, mean_of, minibatches, shuffled, summed
from align.protocols import Scorer
from align.settings import TrainingSettings
from align.tensors import Outlook, SampledReply, TokenExample, TokenLogps, Work
from align.training.course import Course
from align.training.sampler import Sampler, total_steps
from align.training.state import Trained
from align.training.update import Items, Taken, cut, update

TokenIds = NDArray[np.int32]
Lap = Callable[[str], None]
Looked = TypeVar("Looked", Tensor, Outlook)


@dataclass
class Iterations(Course):
    """``training.batch_size`` prompts a step, sampled, scored, and trained on for some epochs."""

    asking: Asking
    actor: Actor
    reference: Callable[[], AbstractContextManager[Forward]] | None
    """Opens the reference for a pass over a rollout; None where nothing asks it."""
    demonstrations: Items[TokenExample] | None
    """What ``objective.ptx_coef`` imitates."""
    recipe: Recipe
    training: TrainingSettings
    memory: Memory

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        return self.asking.policy.device

    @property
    def total(self) -> int:
        """``training.max_steps`` iterations, or what ``training.epochs`` over the prompts take."""
        settings = self.training
        return total_steps(settings.max_steps, settings.epochs, settings.batch_size, self.items)

    @property
    def items(self) -> int:
        """Prompts of the training split."""
        return len(self.asking.questions)

    def take(self, step: int, trained: Trained, lap: Lap) -> Taken:
        """One iteration."""
        training = self.training
        drawn = Sampler(self.asking.seed, training.batch_size, self.items, shuffle=training.shuffle).batch(
            step
        )
        order = shuffled(len(drawn))
        lap("data")
        heard = self.recipe.rollout.old_logps == "sampled"
        # once for all of the rollout: at every token would be dear
        with trained.engine.whole():
            sampled = self.asking.sample(drawn, step, self.actor.value_head if heard else None)
            replies = sampled.replies
            lap("sample")
            scores_N = self.asking.score(drawn, replies).to(self.device, torch.float32)
            lap("score")
            rollout = self._judge(drawn, replies, scores_N, order)
        lap("judge")
        recipe, kl_coef = self.recipe, self.memory.kl.coef
        found = estimate(rollout, self.memory, recipe.score, recipe.kl, recipe.advantage)
        taken = self._update(step, trained, rollout, found, order, lap)
        self.memory = found.memory
        looks = _looks(rollout, found, recipe, self.asking.scorer)
        far = server_distance(rollout.old, replies) if self.asking.served else {}
        metrics = {**looks, **sampled.looks, **far, "kl_coef": (kl_coef, 1.0)}
        return Taken({**taken.metrics, **metrics}, taken.work)

    def state(self) -> Mapping[str, Any]:
        """The KL coefficient and the moments of the scores."""
        return self.memory.plain()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See ``Course``."""
        self.memory = self.memory.restored(state)

    def _judge(
        self, drawn: Sequence[int], replies: Sequence[SampledReply], scores_N: Tensor, order: Sequence[int]
    ) -> Rollout:
        """What policy, critic and reference say of the replies before the first update."""
        device = self.device
        groups = grouped_replies(
            [self.asking.questions.ids[index] for index in drawn], replies, self.asking.replies
        )
        own = self._own_outlook(groups, replies, order)
        reference = None
        if self.reference is not None:
            with self.reference() as forward, torch.no_grad():
                parts = self._of_parts(
                    groups, order, lambda some: forward.logps(some, self.actor.temperature).logps_BT
                )
            reference = TokenLogps(in_parts(parts, own.logps), own.logps.mask_BT)
        ended = torch.tensor([reply.ended for reply in replies], device=device)
        weights = self._weights(own.logps, replies)
        return Rollout(groups, tuple(replies), scores_N, ended, own.logps, reference, own.values_BT, weights)

    def _weights(self, old: TokenLogps, replies: Sequence[SampledReply]) -> Tensor | None:
        """Recomputed over sampled probabilities, where that is asked for; 1 where nobody wrote those down."""
        cap = self.recipe.rollout.importance_cap
        sampled_NT = None if cap is None else sampled_logps(replies, old)
        if cap is None or sampled_NT is None:
            return None
        return importance_weights(old.logps_BT, sampled_NT, old.mask_BT, 0.0, cap)

    def _own_outlook(
        self, groups: Sequence[ReplyGroup], replies: Sequence[SampledReply], order: Sequence[int]
    ) -> Outlook:
        """Log-probabilities and values (N, T): those of sampling where they are asked for and known."""
        device, actor = self.device, self.actor
        sampled = [reply.logps for reply in replies if reply.logps is not None]
        heard = [reply.values for reply in replies if reply.values is not None]
        if self.recipe.rollout.old_logps == "sampled" and len(sampled) == len(replies):
            logps = by_reply(sampled, device)
            if not actor.has_critic:
                return Outlook(logps)
            if len(heard) == len(replies):
                return Outlook(logps, by_reply(heard, device).logps_BT)
            with torch.no_grad(), evaluating(actor.model):
                found = self._of_parts(groups, order, actor.values)
            return Outlook(logps, in_parts(found, logps))
        with torch.no_grad(), evaluating(actor.model):
            looks = self._of_parts(groups, order, actor.look)
        like = by_reply([np.zeros(len(reply.token_ids), np.float32) for reply in replies], device)
        logps_NT = in_parts([(rows, look.logps.logps_BT) for rows, look in looks], like)
        values = [(rows, look.values_BT) for rows, look in looks if look.values_BT is not None]
        return Outlook(TokenLogps(logps_NT, like.mask_BT), in_parts(values, like) if values else None)

    def _of_parts(
        self, groups: Sequence[ReplyGroup], order: Sequence[int], look: Callable[[list[ReplyGroup]], Looked]
    ) -> list[tuple[list[int], Looked]]:
        """What a look says of each micro-batch of the first epoch, with its rows of the rollout.

        In the very layout of the update, and on the rank that it will be on, so that the first minibatch's
        ratio is 1 to the last bit.
        """
        count, replies = len(groups), self.recipe.rollout.replies
        found: list[tuple[list[int], Looked]] = []
        for minibatch in minibatches(order, self.recipe.objective.minibatches):
            parts = [minibatch[chunk] for chunk in cut(len(minibatch), self.training.micro_batch_size)]
            said = shared_out(parts, lambda part: look([groups[one] for one in part]))
            rows = [[reply * count + one for reply in range(replies) for one in part] for part in parts]
            found += zip(rows, said, strict=True)
        return found

    def _update(
        self,
        step: int,
        trained: Trained,
        rollout: Rollout,
        found: Estimate,
        order: Sequence[int],
        lap: Lap,
    ) -> Taken:
        settings = self.recipe.objective
        sums: dict[str, tuple[float, float]] = {}
        work, updates, stop = Work(), 0, False
        for epoch in range(settings.epochs):
            passing = order if epoch == 0 else shuffled(len(order))
            for minibatch in minibatches(passing, settings.minibatches):
                shares = self._shares(minibatch, step, updates)
                objective = Clipped(
                    actor=self.actor,
                    rollout=rollout,
                    advantages=found.advantages,
                    objective=settings,
                    kl=self.recipe.kl,
                    kl_coef=self.memory.kl.coef,
                    critic=self.recipe.critic,
                    length=self.asking.sampling.max_new_tokens,
                    minibatch=shares,
                    untouched=updates == 0,
                )
                taken = update(
                    objective,
                    shares,
                    parameters=trained.parameters,
                    engine=trained.engine,
                    micro_batch_size=self.training.micro_batch_size,
                    max_grad_norm=self.training.max_grad_norm,
                    step=step,
                    ids=[f"prompt {one}" for one in minibatch],
                    lap=lap,
                )
                updates += 1
                sums = summed((sums, taken.metrics))
                work = work if taken.work is None else work + taken.work
                moved = mean_of(taken.metrics, "policy/approx_kl")
                stop = settings.target_kl is not None and moved > settings.target_kl
                if stop:
                    break
            if stop:
                break
        return Taken({**sums, "updates": (float(updates), 1.0)}, work)

    def _shares(self, minibatch: Sequence[int], step: int, updates: int) -> list[Share]:
        if not self.recipe.objective.ptx_coef or self.demonstrations is None:
            return [Share(one) for one in minibatch]
        steps_an_iteration = self.recipe.objective.epochs * self.recipe.objective.minibatches
        sampler = Sampler(self.asking.seed, len(minibatch), len(self.demonstrations))
        imitated = sampler.batch((step - 1) * steps_an_iteration + updates + 1)
        return [
            Share(one, self.demonstrations[index]) for one, index in zip(minibatch, imitated, strict=True)
        ]


def _looks(
    rollout: Rollout, found: Estimate, recipe: Recipe, scorer: Scorer
) -> dict[str, tuple[float, float]]:
    """What a line of metrics says of a rollout: sums over replies (or tokens), and their number."""
    scores_N, mask_NT = rollout.scores_N, rollout.mask_NT
    replies, tokens = float(len(scores_N)), float(mask_NT.sum())
    advantages = found.advantages.advantages_NT[mask_NT]
    looks = {
        "rollout/score": (float(scores_N.sum()), replies),
        "rollout/score_std": (float(scores_N.std(correction=0)), 1.0),
        "rollout/reward": (float(found.rewards_NT.sum()), replies),
        "rollout/entropy": (-float((rollout.weighted_NT * rollout.old.logps_BT).sum()), tokens),
        "rollout/length": (tokens, replies),
        "rollout/ended": (float(rollout.ended_N.sum()), replies),
        "rollout/distinct_2": (distinct("", [one.token_ids for one in rollout.replies], 2).value, 1.0),
        "advantages/mean": (float(advantages.mean()), 1.0),
        "advantages/std": (float(advantages.std(correction=0)), 1.0),
    }
    if rollout.reference is not None:
        looks["rollout/kl"] = (float(drift(rollout).sum()), replies)
    if recipe.rollout.replies > 1:
        equal = scores_N.view(recipe.rollout.replies, -1).std(0, correction=0) == 0
        looks["rollout/equal_groups"] = (float(equal.sum()), float(len(equal)))
    if rollout.values_NT is not None:
        variance = explained_variance(rollout.values_NT, found.advantages.returns_NT, mask_NT)
        looks["value/explained_variance"] = (variance, 1.0)
        looks["value/mean"] = (float(rollout.values_NT[mask_NT].sum()), tokens)
    bounds = getattr(scorer, "score_range", None)
    if bounds is not None and not any(map(math.isnan, bounds)):
        outside = (scores_N < bounds[0]) | (scores_N > bounds[1])
        looks["rollout/score_outside"] = (float(outside.sum()), replies)
    return looks
