"""A weighted sum of several losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.losses.bco import Bco
from align.losses.dpo import Dpo
from align.losses.sft import Sft
from align.protocols import PairLoss
from align.settings import NonNegative
from align.tensors import PairLosses

if TYPE_CHECKING:
    from align.tensors import PairLogps

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Term:
    """One loss of the sum."""

    loss: PairLoss
    """Any loss, with its own settings."""
    weight: NonNegative = 1.0
    """What its values are multiplied by."""


@dataclass(frozen=True)
class Mixture:
    """Σ weight · loss. The default is mixed preference optimisation (MPO; Wang et al. 2024).

    The implicit rewards are those of the first term.
    """

    terms: tuple[Term, ...] = (
        Term(Dpo(beta=0.1), 0.8),
        Term(Bco(beta=0.1, shift="none"), 0.2),
        Term(Sft(), 1.0),
    )
    """``[{weight: 0.8, loss: {name: dpo, beta: 0.1}}, ...]``; an override replaces the whole list."""

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError("terms is empty: give at least one, as [{weight: 1.0, loss: {name: dpo}}]")

    @property
    def needs_reference(self) -> bool:
        """True where one of the terms does."""
        return any(term.loss.needs_reference for term in self.terms)

    @property
    def needs_tokens(self) -> bool:
        """True where one of the terms does."""
        return any(term.loss.needs_tokens for term in self.terms)

    @property
    def couples_batch(self) -> bool:
        """True where one of the terms does."""
        return any(term.loss.couples_batch for term in self.terms)

    def __call__(self, logps: PairLogps) -> PairLosses:
        first, *others = (term.loss(logps) for term in self.terms)
        losses_B = self.terms[0].weight * first.losses
        for term, other in zip(self.terms[1:], others, strict=True):
            losses_B = losses_B + term.weight * other.losses
        return PairLosses(losses_B, first.chosen_rewards, first.rejected_rewards)
