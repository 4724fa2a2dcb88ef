"""Identity preference optimisation: the margin is drawn to a finite target instead of to infinity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log_ratios, logged_ratios, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Ipo"]


@dataclass(frozen=True)
class Ipo:
    """IPO (Azar et al. 2023, eq. 17): (h - 1/(2β))² with h the margin of the log-ratios; β is the paper's τ.

    The equation takes sequence log-ratios. trl's authors report that IPO's had divided them by the length in
    tokens in their experiments: that is ``per_token``, and its beta is of another magnitude.
    """

    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """τ of the paper: the margin is drawn to 1/(2 beta)."""
    per_token: bool = False
    """Takes log-ratios per token instead of per sequence."""
    reference_free: bool = False
    """Takes a uniform reference, which drops out: no reference pass is made."""

    @property
    def needs_reference(self) -> bool:
        """False where the reference is taken to be uniform."""
        return not self.reference_free

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps, self.reference_free)
        scores = ratios.per_token(logps) if self.per_token else ratios
        losses = (scores.margin() - 1 / (2 * self.beta)) ** 2
        return with_rewards(losses, self.beta, logged_ratios(logps))
