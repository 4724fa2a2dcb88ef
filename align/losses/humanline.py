"""Any loss, on token log-ratios that are clamped first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from align.config import Range
from align.losses._terms import policy_tokens, reference_tokens, with_tokens
from align.losses.dpo import Dpo
from align.protocols import PairLoss
from align.settings import NonNegative
from align.tensors import TokenLogps

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Humanline"]


@dataclass(frozen=True)
class Humanline:
    """Humanline clipping (Liu, Ethayarajh et al. 2025): log π/π_ref of each token is held in [low, high].

    A token beyond a bound has no gradient. The inner loss then sees a policy whose log-ratios are the clamped
    ones; without a reference the clamp falls on the log-probabilities themselves, as in HALOs. The paper also
    moves the reference along with the policy; that part is not a loss.
    """

    needs_tokens: ClassVar[bool] = True

    inner: PairLoss = field(default_factory=Dpo)
    """The loss of the clamped log-ratios."""
    low: Annotated[float, Range(high=0)] = -1.5
    """Least log-ratio of a token, in nats (log ε_P)."""
    high: NonNegative = 1.5
    """Greatest log-ratio of a token, in nats (log ε_R)."""

    @property
    def needs_reference(self) -> bool:
        """As the inner loss."""
        return self.inner.needs_reference

    @property
    def couples_batch(self) -> bool:
        """As the inner loss."""
        return self.inner.couples_batch

    def __call__(self, logps: PairLogps) -> PairLosses:
        policy, reference = policy_tokens(logps), reference_tokens(logps)
        base_BT = reference.logps_BT if reference is not None else 0.0
        # 0 lies within the bounds, so padding (log-ratio 0) stays 0 without a mask.
        clamped_BT = base_BT + (policy.logps_BT - base_BT).clamp(self.low, self.high)
        return self.inner(with_tokens(logps, TokenLogps(clamped_BT, policy.mask_BT), reference))
