"""Votes as counts: how many gave each unit each value. Numpy only.

Legend: U units (what is judged), C categories (the values that a vote can have).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.errors import DataError

Array = NDArray[np.float64]
Vote = tuple[Hashable, Hashable, Hashable]
"""(unit, annotator, value)."""


@dataclass(frozen=True, eq=False)
class CountTable:
    """``counts_UC[u, c]`` votes gave unit u the value c; a vote that is missing is in no column."""

    categories: tuple[Hashable, ...]
    """What the columns mean, in the order of the scale where there is one."""
    counts_UC: Array

    def compared_UC(self) -> Array:
        """The units with two votes or more (one vote alone agrees with nobody), sorted.

        Sorted, so that no order of the units shows, in a seeded resample or in the last bit of a sum.
        """
        compared_UC: Array = self.counts_UC[self.counts_UC.sum(-1) >= 2]
        return compared_UC[np.lexsort(compared_UC.T)]


def table_of_counts(counts: ArrayLike, categories: Sequence[Hashable] | None = None) -> CountTable:
    """A table as papers print it: a row a unit, a column a category.

    Raises:
        DataError: not a table of whole numbers from 0 up, or other names than columns.
    """
    counts_UC = np.asarray(counts, dtype=np.float64)
    if counts_UC.ndim != 2 or (counts_UC < 0).any() or (counts_UC != np.floor(counts_UC)).any():
        raise DataError("a table of counts is units x categories, of whole numbers from 0 up")
    names = tuple(range(counts_UC.shape[1]) if categories is None else categories)
    if len(set(names)) != counts_UC.shape[1]:
        raise DataError(f"a table of {counts_UC.shape[1]} columns takes as many categories, got {names}")
    return CountTable(names, counts_UC)


def table_of_votes(votes: Iterable[Vote], categories: Sequence[Hashable] | None = None) -> CountTable:
    """Counts of votes, units in the order of their first vote.

    Args:
        votes: at most one an annotator and unit; who has not voted has no triple.
        categories: every value in the order of the scale, seen or not; None takes those seen, in the
            order in which they appear (which is no scale).

    Raises:
        DataError: a value that is no category, or a second vote of one annotator on one unit.
    """
    cast = list(votes)
    names = tuple(dict.fromkeys(vote[2] for vote in cast) if categories is None else categories)
    rows = {unit: row for row, unit in enumerate(dict.fromkeys(vote[0] for vote in cast))}
    columns = {name: column for column, name in enumerate(names)}
    seen: set[tuple[Hashable, Hashable]] = set()
    counts_UC = np.zeros((len(rows), len(names)))
    for unit, annotator, value in cast:
        if (unit, annotator) in seen:
            raise DataError(f"annotator {annotator!r} has two votes on unit {unit!r}: keep one of them")
        if value not in columns:
            raise DataError(f"unit {unit!r} has the value {value!r}, which is none of {names}")
        seen.add((unit, annotator))
        counts_UC[rows[unit], columns[value]] += 1
    return CountTable(names, counts_UC)
