"""A weighted sum of other rewards, each by its name with its own settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from align.config import REST
from align.errors import ConfigError, NonFiniteError
from align.protocols import KnownRange, RewardModel, Scorer, ScoresInParts
from align.types import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from align.models.policy import Policy
    from align.types import Prompt

__all__ = ["Weighted"]


@dataclass(frozen=True)
class Part:
    """One reward of a sum; the other keys are the reward's own."""

    reward: Annotated[RewardModel, REST]
    """The component, named by ``name``, or by its key among the parts where there is no ``name``."""
    weight: float = 1.0
    """What its scores are multiplied by: negative takes off, 0 only watches."""


@dataclass(frozen=True)
class Weighted:
    """The sum of weight times score over the parts, in the parts' own units.

    A part is named by its key, or by ``name`` where two parts are of one kind::

        reward=weighted reward.parts.bradley_terry.path=runs/reward reward.parts.gold.weight=0.1
        reward=weighted reward.parts.helpful.name=bradley_terry reward.parts.helpful.path=runs/a ...
    """

    parts: dict[str, Part] = field(default_factory=dict)
    """Key -> a reward with its weight and its own settings. A part may be a sum itself."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError(
                "a weighted sum has parts, none is given: type for example "
                "reward.parts.bradley_terry.path=runs/reward reward.parts.rules.weight=0.5"
            )

    def prepare(self, cache: Path | None = None) -> Sum:
        """Makes each part ready. Raises what the parts raise."""
        return self._sum({name: part.reward.prepare(cache) for name, part in self.parts.items()})

    def prepare_on(self, policy: Policy, cache: Path | None = None) -> Sum:
        """The same, each part on the policy's frozen weights where it can stand there."""
        from align.models.one_base import prepared

        return self._sum({name: prepared(part.reward, policy, cache) for name, part in self.parts.items()})

    def _sum(self, scorers: Mapping[str, Scorer]) -> Sum:
        return Sum(scorers, {name: part.weight for name, part in self.parts.items()})


@dataclass(frozen=True)
class Sum:
    """Parts that are ready, and their weights."""

    scorers: Mapping[str, Scorer]
    weights: Mapping[str, float]

    @property
    def score_range(self) -> tuple[float, float] | None:
        """The sum of the parts' ranges; None where a part that counts has none."""
        low = high = 0.0
        for name, weight in self.weights.items():
            scorer = self.scorers[name]
            if weight == 0:
                continue
            known = scorer.score_range if isinstance(scorer, KnownRange) else None
            if known is None:
                return None
            ends = sorted(weight * bound for bound in known)
            low, high = low + ends[0], high + ends[1]
        return low, high

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One sum a reply.

        Raises:
            NonFiniteError: a part's score is NaN or infinite.
        """
        return self.score_in_parts(prompts, replies).scores

    def score_in_parts(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> Scores:
        """The same, with each part's own scores, unweighted; a part's parts are named ``part/theirs``."""
        parts: dict[str, list[float]] = {}
        sums = [0.0] * len(replies)
        for name, scorer in self.scorers.items():
            if isinstance(scorer, ScoresInParts):
                found = scorer.score_in_parts(prompts, replies)
            else:
                found = Scores(scorer.score(prompts, replies), {})
            parts[name] = found.scores
            parts.update({f"{name}/{inner}": values for inner, values in found.parts.items()})
            sums = [total + self.weights[name] * one for total, one in zip(sums, found.scores, strict=True)]
        for row, total in enumerate(sums):
            if not math.isfinite(total):
                each = ", ".join(f"{name} {parts[name][row]}" for name in self.scorers)
                raise NonFiniteError(
                    f"reward=weighted gave {total} to reply {row} of {len(sums)}: its parts are {each}"
                )
        return Scores(sums, parts)
