"""What a sweep varies: axes with their values or spans, beside the words that all of its jobs share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    step: float | None = None
    """Distance of neighbours; None where every number between counts."""
    integer: bool = False
    log: bool = False
    """Whether equal ratios are equally likely, instead of equal differences."""


@dataclass(frozen=True)
class Axis:
    """One option that varies."""

    key: str
    values: tuple[str, ...]
    """Its values as they are typed; empty for an interval, which has no list of them."""
    span: Span | None
    """Where it is numbers in order (``range``, ``interval``)."""
    typed: str
    """The word as the user typed it."""

    def word(self, value: str) -> str:
        """The option with one of its values."""
        return f"{self.key}={value}"


@dataclass(frozen=True)
class Swept:
    """A sweep's words, in the order in which they were typed."""

    words: tuple[str | Axis, ...]

    @property
    def fixed(self) -> tuple[str, ...]:
        """What all jobs share."""
        return tuple(word for word in self.words if isinstance(word, str))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What varies, the slowest first."""
        return tuple(word for word in self.words if isinstance(word, Axis))

    def job(self, varied: Sequence[str]) -> tuple[str, ...]:
        """All words of one job: an axis' place is taken by its word in ``varied``, which has one for each."""
        own = iter(varied)
        return tuple(next(own) if isinstance(word, Axis) else word for word in self.words)

    def products(self) -> list[tuple[str, ...]]:
        """The varied words of every combination, first axis slowest."""
        each = [[axis.word(value) for value in axis.values] for axis in self.axes]
        return list(itertools.product(*each))
