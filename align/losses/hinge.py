"""The hinge on DPO's margin: no gradient once it is wide enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import log_ratios, logged_ratios, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Hinge"]


@dataclass(frozen=True)
class Hinge:
    """max(0, 1 - β·margin): hinge-norm of RSO (Liu et al. 2023)."""

    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """1/beta is the margin of the log-ratios at which the pull stops."""
    reference_free: bool = False
    """Takes a uniform reference, which drops out: no reference pass is made."""

    @property
    def needs_reference(self) -> bool:
        """False where the reference is taken to be uniform."""
        return not self.reference_free

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps, self.reference_free)
        losses = (1 - self.beta * ratios.margin()).relu()
        return with_rewards(losses, self.beta, logged_ratios(logps))
