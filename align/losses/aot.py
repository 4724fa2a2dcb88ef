"""Alignment via optimal transport, paired: sorted margins of the policy above those of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import FlipRate, log_ratios, logistic, policy_logps, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Aot"]


@dataclass(frozen=True)
class Aot:
    """AOT for pairs (Melnyk et al. 2024, "Distributional Preference Alignment of LLMs").

    -log σ(β(policy's margin - reference's margin)), each sorted over the micro-batch. The i-th loss belongs
    to the i-th smallest margin, not to the i-th pair; their mean is the paper's.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = True

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    label_smoothing: FlipRate = 0.0
    """Probability ε that a label is wrong."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        policy, ratios = policy_logps(logps), log_ratios(logps)
        reference_margin = policy.margin() - ratios.margin()
        delta = policy.margin().sort().values - reference_margin.sort().values
        return with_rewards(logistic(self.beta * delta, self.label_smoothing), self.beta, ratios)
