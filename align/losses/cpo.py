"""Contrastive preference optimisation: DPO without its reference, and the chosen reply's likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.losses._terms import FlipRate, logistic, policy_logps, with_rewards
from align.settings import NonNegative, Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Cpo"]


@dataclass(frozen=True)
class Cpo:
    """CPO (Xu et al. 2024, eq. 3): the preference term on sequence sums, plus a negative log-likelihood.

    The likelihood is taken per token of each chosen reply, as the authors' code does (there over the whole
    batch; ``loss=mixture`` with an ``sft`` term gives that one).
    """

    needs_reference: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """Scale of the preference term; the implicit reward is beta times the sequence log-probability."""
    label_smoothing: FlipRate = 0.0
    """Probability ε that a label is wrong."""
    sft_weight: NonNegative = 1.0
    """Weight of the chosen reply's negative log-likelihood per token."""

    def __call__(self, logps: PairLogps) -> PairLosses:
        policy = policy_logps(logps)
        preference = logistic(self.beta * policy.margin(), self.label_smoothing)
        losses = preference - self.sft_weight * policy.per_token(logps).chosen
        return with_rewards(losses, self.beta, policy)
