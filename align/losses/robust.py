"""Robust DPO: unbiased under labels that are flipped at a known rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import FlipRate, log_ratios, log_sigmoid, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Robust"]


@dataclass(frozen=True)
class Robust:
    """Robust DPO (Chowdhury, Kini, Natarajan 2024): ((1-ε) L(z) - ε L(-z)) / (1-2ε), L the logistic loss.

    Under labels flipped with probability ε its expectation is the DPO loss on clean labels, exactly;
    conservative DPO (``loss=dpo loss.label_smoothing=ε``) is biased there. Not bounded below for ε > 0.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    label_smoothing: FlipRate = 0.1
    """Rate ε at which the labels are flipped."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        z, flip = self.beta * ratios.margin(), self.label_smoothing
        losses = ((1 - flip) * -log_sigmoid(z) - flip * -log_sigmoid(-z)) / (1 - 2 * flip)
        return with_rewards(losses, self.beta, ratios)
