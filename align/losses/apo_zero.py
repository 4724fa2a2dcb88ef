"""Anchored preference optimisation, zero: chosen replies up, rejected ones down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log_ratios, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["ApoZero"]


@dataclass(frozen=True)
class ApoZero:
    """APO-zero (D'Oosterlinck et al. 2024, eq. 7): 1 - σ(β·r_w) + σ(β·r_l), r the log-ratios.

    For pairs whose chosen replies are better than the model's own.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        losses = (-self.beta * ratios.chosen).sigmoid() + (self.beta * ratios.rejected).sigmoid()
        return with_rewards(losses, self.beta, ratios)
