"""Alignment via optimal transport, unpaired: chosen log-ratios dominate rejected ones as distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import FlipRate, log_ratios, logistic, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["AotUnpaired"]


@dataclass(frozen=True)
class AotUnpaired:
    """AOT without pairing (Melnyk et al. 2024, "Distributional Preference Alignment of LLMs").

    -log σ(β(chosen log-ratio - rejected log-ratio)), each sorted over the micro-batch. The i-th loss compares
    the i-th smallest of each side; their mean is the paper's.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = True

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    label_smoothing: FlipRate = 0.0
    """Probability ε that a label is wrong."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        delta = ratios.chosen.sort().values - ratios.rejected.sort().values
        return with_rewards(logistic(self.beta * delta, self.label_smoothing), self.beta, ratios)
