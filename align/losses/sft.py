"""The chosen replies' negative log-likelihood: a term for mixtures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from align.losses._terms import policy_logps, with_rewards

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Sft"]


@dataclass(frozen=True)
class Sft:
    """Negative log-likelihood of the chosen reply; the rejected one is not looked at.

    ``average=tokens`` counts every token of the micro-batch alike: a pair's loss is its sum over the mean
    length, so the mean over pairs is the mean over tokens. It couples the batch through the lengths.
    """

    needs_reference: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False

    average: Literal["tokens", "replies"] = "tokens"
    """What counts alike: every chosen token of the micro-batch, or every chosen reply."""

    @property
    def couples_batch(self) -> bool:
        """True where a pair's weight depends on the other lengths."""
        return self.average == "tokens"

    def __call__(self, logps: PairLogps) -> PairLosses:
        policy = policy_logps(logps)
        lengths = logps.chosen_lengths.clamp(min=1).to(policy.chosen.dtype)
        losses = -policy.chosen / (lengths.mean() if self.average == "tokens" else lengths)
        return with_rewards(losses, 1.0, policy)
