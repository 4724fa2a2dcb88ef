"""SimPO: the average log-probability of a reply as its reward, and a target margin. No reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from align.errors import ConfigError
from align.losses._terms import FlipRate, Sides, logistic, policy_logps, power_score, with_rewards
from align.settings import NonNegative, Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Simpo"]


@dataclass(frozen=True)
class Simpo:
    """SimPO (Meng et al. 2024, eq. 6): -log σ(r_w - r_l - γ), r = β · log π(y|x) / length.

    ``gamma`` is the paper's γ, in the unit of the reward. The authors' code is given the ratio γ/β instead:
    its gamma_beta_ratio=0.25 at beta=2 is gamma=0.5 here.
    """

    needs_reference: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 2.0
    """Scale of the reward: beta times the mean log-probability of a token."""
    gamma: NonNegative = 0.5
    """Target margin of the rewards (not its ratio to beta)."""
    kind: Literal["logistic", "hinge"] = "logistic"
    """Loss of what the margin exceeds gamma by; ``hinge`` is the authors' variant max(0, 1 - it)."""
    label_smoothing: FlipRate = 0.0
    """Probability ε that a label is wrong; for ``kind=logistic``."""
    alpha: float = 0.0
    """AlphaPO (Gupta et al. 2025): the reward is β(1 - p^-α)/α, p = exp(mean log-prob.); 0 is SimPO."""

    def __post_init__(self) -> None:
        if self.kind == "hinge" and self.label_smoothing:
            raise ConfigError(
                f"kind=hinge takes no label_smoothing, got {self.label_smoothing}: set it to 0, "
                f"or take kind=logistic"
            )

    def __call__(self, logps: PairLogps) -> PairLosses:
        means = policy_logps(logps).per_token(logps)
        rewards = Sides(power_score(means.chosen, self.alpha), power_score(means.rejected, self.alpha))
        excess = self.beta * rewards.margin() - self.gamma
        losses = (1 - excess).relu() if self.kind == "hinge" else logistic(excess, self.label_smoothing)
        return with_rewards(losses, self.beta, rewards)
