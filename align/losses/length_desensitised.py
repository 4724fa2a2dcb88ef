"""Any loss, with the tokens by which the longer reply is longer counted for less."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from align.config import Range
from align.losses._terms import policy_tokens, reference_tokens, with_tokens
from align.losses.dpo import Dpo
from align.protocols import PairLoss
from align.tensors import TokenLogps

if TYPE_CHECKING:
    from torch import Tensor

    from align.tensors import PairLogps, PairLosses

__all__ = ["LengthDesensitised"]


@dataclass(frozen=True)
class LengthDesensitised:
    """LD-DPO's likelihood (Liu et al. 2024): tokens past the shorter reply's length are weighted by α.

    The policy's and the reference's log-probabilities are reweighted alike. α = 1 changes nothing; α = 0
    compares the two replies over their common length.
    """

    needs_tokens: ClassVar[bool] = True

    inner: PairLoss = field(default_factory=Dpo)
    """The loss of the reweighted log-probabilities."""
    alpha: Annotated[float, Range(low=0, high=1)] = 0.5
    """Weight α of the tokens past the shorter reply's length."""

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
        chosen, rejected = policy.mask_BT.sum(-1).chunk(2)
        shared = chosen.minimum(rejected).repeat(2).unsqueeze(-1)
        past_BT = policy.mask_BT.cumsum(-1) > shared
        policy = _weighted(policy, past_BT, self.alpha)
        reference = _weighted(reference, past_BT, self.alpha) if reference is not None else None
        return self.inner(with_tokens(logps, policy, reference))


def _weighted(tokens: TokenLogps, past_BT: Tensor, alpha: float) -> TokenLogps:
    return TokenLogps(tokens.logps_BT.where(~past_BT, alpha * tokens.logps_BT), tokens.mask_BT)
