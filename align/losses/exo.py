"""Efficient exact optimisation: the reverse KL between the policy's preference and the labels'."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from align.config import Range
from align.losses._terms import log_ratios, log_sigmoid, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Exo"]


@dataclass(frozen=True)
class Exo:
    """EXO on pairs (Ji et al. 2024, eq. 16): KL(q || p), q = (σ(z), σ(-z)), p = (1-ε, ε), z = β·margin."""

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    label_smoothing: Annotated[float, Range(low=0, high=0.5, low_open=True, high_open=True)] = 1e-3
    """ε: what the labels leave to the rejected reply. At 0 the divergence is infinite."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        z = self.beta * ratios.margin()
        chosen = z.sigmoid() * (log_sigmoid(z) - math.log1p(-self.label_smoothing))
        rejected = (-z).sigmoid() * (log_sigmoid(-z) - math.log(self.label_smoothing))
        return with_rewards(chosen + rejected, self.beta, ratios)
