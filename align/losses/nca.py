"""Noise contrastive alignment: likelihoods, not only their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log_ratios, log_sigmoid, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Nca"]


@dataclass(frozen=True)
class Nca:
    """NCA for pairs (Chen et al. 2024): -log σ(r_w) - ½ log σ(-r_w) - ½ log σ(-r_l), r = β·log-ratio."""

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.01
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        chosen, rejected = self.beta * ratios.chosen, self.beta * ratios.rejected
        losses = -log_sigmoid(chosen) - 0.5 * log_sigmoid(-chosen) - 0.5 * log_sigmoid(-rejected)
        return with_rewards(losses, self.beta, ratios)
