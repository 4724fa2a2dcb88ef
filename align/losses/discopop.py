"""DiscoPOP: logistic and exponential loss, blended by the margin itself; found by a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from align.config import Range
from align.losses._terms import log_ratios, log_sigmoid, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Discopop"]


@dataclass(frozen=True)
class Discopop:
    """The log-ratio modulated loss (Lu et al. 2024, eq. 5), with z = β·margin of the log-ratios.

    (1 - σ(z/τ)) · -log σ(z) + σ(z/τ) · e^-z. Not convex: it has a local minimum at negative margins.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.05
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    tau: Annotated[float, Range(low=0, high=1, low_open=True)] = 0.05
    """Temperature of the blend. Above 1 the exponential term would be unbounded at negative margins."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        z = self.beta * ratios.margin()
        # e^-z alone overflows where the weight beside it vanishes: one exponent for both.
        exponential = (log_sigmoid(z / self.tau) - z).exp()
        losses = (-z / self.tau).sigmoid() * -log_sigmoid(z) + exponential
        return with_rewards(losses, self.beta, ratios)
