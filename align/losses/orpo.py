"""Odds ratio preference optimisation: fine-tuning and preference in one, without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log1mexp, log_sigmoid, policy_logps, with_rewards
from align.settings import NonNegative, Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Orpo"]


@dataclass(frozen=True)
class Orpo:
    """ORPO (Hong et al. 2024, eq. 6 and 7): L_SFT + λ L_OR, with β for λ.

    Probabilities are per token (the geometric mean over the reply), as is the likelihood of the chosen one.
    """

    needs_reference: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """λ: weight of the odds-ratio term."""
    sft_weight: NonNegative = 1.0
    """Weight of the chosen reply's negative log-likelihood per token; 1 is the paper's."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        means = policy_logps(logps).per_token(logps)
        # log odds(y) = log p - log(1 - p) (eq. 4), with log p the mean log-probability of a token.
        log_odds_ratio = means.margin() - (log1mexp(means.chosen) - log1mexp(means.rejected))
        losses = -self.sft_weight * means.chosen - self.beta * log_sigmoid(log_odds_ratio)
        return with_rewards(losses, self.beta, means)
