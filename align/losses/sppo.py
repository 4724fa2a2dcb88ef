"""Self-play preference optimisation with hard labels: each log-ratio has a target of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log_ratios, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Sppo"]


@dataclass(frozen=True)
class Sppo:
    """SPPO, the hard version (Wu et al. 2024, eq. 4.7 with P = 1 for the chosen reply and 0 for the other).

    The paper's η is 1/β.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.001
    """1/η of the paper: the log-ratios are drawn to +-1/(2 beta)."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        target = 0.5 / self.beta
        losses = (ratios.chosen - target) ** 2 + (ratios.rejected + target) ** 2
        return with_rewards(losses, self.beta, ratios)
