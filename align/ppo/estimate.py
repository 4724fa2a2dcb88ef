"""From a rollout to advantages: how an iteration's scores become what its tokens are credited with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from align.errors import DataError
from align.ppo.advantages import Advantages, gae, group_relative, leave_one_out, spread, whiten
from align.ppo.rollout import Rollout
from align.ppo.settings import GaeSettings, GroupSettings, KlSettings, ScoreSettings
from align.ppo.shaping import (
    AdaptiveKl,
    FixedKl,
    RunningMoments,
    clip_scores,
    kl_NT,
    masked,
    penalise_missing_end,
    shape_rewards,
)


@dataclass(frozen=True)
class Memory:
    """What is kept from iteration to iteration: the KL coefficient and the moments of the scores so far."""

    kl: FixedKl | AdaptiveKl
    moments: RunningMoments

    def plain(self) -> dict[str, Any]:
        """As plain values; floats survive JSON exactly."""
        return {"kl_coef": self.kl.coef, "moments": self.moments.plain()}

    def restored(self, values: Mapping[str, Any]) -> Memory:
        """The inverse of ``plain``, on what the settings say."""
        moments = RunningMoments(**values["moments"])
        return Memory(replace(self.kl, coef=values["kl_coef"]), moments)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an iteration's replies are worth."""

    rewards_NT: Tensor
    """Shaped: the KL's price at each token, the score at the last."""
    advantages: Advantages
    memory: Memory
    """After this iteration: its KL has moved the coefficient, its scores the moments."""


def first_memory(kl: KlSettings) -> Memory:
    """Before the first iteration."""
    if kl.controller == "adaptive":
        return Memory(AdaptiveKl(kl.coef, kl.target, kl.horizon), RunningMoments())
    return Memory(FixedKl(kl.coef), RunningMoments())


def estimate(
    rollout: Rollout,
    memory: Memory,
    score: ScoreSettings,
    kl: KlSettings,
    advantage: GaeSettings | GroupSettings,
) -> Estimate:
    """Scores -> rewards -> advantages; the coefficient that was in force is ``memory``'s.

    Raises:
        DataError: too few tokens to whiten over.
    """
    mask_NT = rollout.mask_NT
    scores_N = rollout.scores_N
    if score.missing_end != "none":
        scores_N = penalise_missing_end(scores_N, rollout.ended_N, score.penalty, score.missing_end)
    moments = memory.moments.updated(scores_N)
    if score.normalise != "none":
        scores_N = moments.normalised(scores_N, shift=score.normalise == "standard")
    scores_N = clip_scores(scores_N, score.clip)
    price_NT, coef = mask_NT.new_zeros(mask_NT.shape, dtype=scores_N.dtype), 0.0
    controller = memory.kl
    if rollout.reference is not None:
        policy_NT, reference_NT = rollout.old.logps_BT, rollout.reference.logps_BT
        if kl.place == "reward":
            price_NT, coef = kl_NT(policy_NT, reference_NT, kl.estimator, mask_NT), memory.kl.coef
        controller = memory.kl.updated(float(drift(rollout).mean()), len(scores_N))
    rewards_NT = shape_rewards(scores_N, price_NT, mask_NT, coef)
    try:
        advantages = _advantages(rollout, rewards_NT, advantage)
    except ValueError as error:
        raise DataError(f"{error}: raise training.batch_size, or set advantage.whiten=false") from error
    return Estimate(rewards_NT, advantages, Memory(controller, moments))


def drift(rollout: Rollout) -> Tensor:
    """KL (N,) from the reference by each reply, in nats: the sum of k1 over its tokens, unbiased.

    Of replies that another policy wrote, each token counts by its weight: the KL of the next token where that
    policy went.
    """
    assert rollout.reference is not None, "no reference was asked"
    price_NT = kl_NT(rollout.old.logps_BT, rollout.reference.logps_BT, "k1", rollout.mask_NT)
    return (rollout.weighted_NT * price_NT).sum(-1)


def _advantages(rollout: Rollout, rewards_NT: Tensor, advantage: GaeSettings | GroupSettings) -> Advantages:
    mask_NT = rollout.mask_NT
    if isinstance(advantage, GaeSettings):
        assert rollout.values_NT is not None, "a critic that was not asked"
        if advantage.whiten_rewards:
            rewards_NT = whiten(rewards_NT, mask_NT, shift_mean=False, unbiased=advantage.unbiased)
        found = gae(rewards_NT, rollout.values_NT, mask_NT, advantage.gamma, advantage.lam)
        if not advantage.whiten:
            return found
        # after the returns were taken, which the critic is drawn to
        return replace(
            found,
            advantages_NT=whiten(
                found.advantages_NT, mask_NT, shift_mean=advantage.shift_mean, unbiased=advantage.unbiased
            ),
        )
    replies, rewards_N = len(rollout.groups[0].replies), masked(rewards_NT, mask_NT).sum(-1)
    if advantage.baseline == "leave_one_out":
        advantages_N = leave_one_out(rewards_N, replies)
    else:
        advantages_N = group_relative(rewards_N, replies, advantage.scale)
    if advantage.whiten:
        advantages_N = whiten(advantages_N.unsqueeze(-1), mask_NT.any(-1, keepdim=True)).squeeze(-1)
    advantages_NT = spread(advantages_N, mask_NT)
    return Advantages(advantages_NT, advantages_NT)
