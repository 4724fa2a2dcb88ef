"""Sequence likelihood calibration: a hinge on the policy's own log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import policy_logps, with_rewards
from align.settings import NonNegative, Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Slic"]


@dataclass(frozen=True)
class Slic:
    """SLiC-HF (Zhao et al. 2023): max(0, δ - log π(y_w) + log π(y_l)) - λ log π(y_w), on sequence sums.

    The reply that λ pulls to is the chosen one.
    """

    needs_reference: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    delta: Positive = 1.0
    """δ: the margin of sequence log-probabilities, in nats, at which the calibration stops."""
    sft_weight: NonNegative = 0.1
    """λ: weight of the chosen reply's negative log-likelihood."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        policy = policy_logps(logps)
        losses = (self.delta - policy.margin()).relu() - self.sft_weight * policy.chosen
        return with_rewards(losses, 1.0, policy)
