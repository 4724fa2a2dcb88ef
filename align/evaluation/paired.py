"""Do two policies differ on the same prompts: tests, their correction for many, and what n could show.

Standard library and numpy only. Every p-value is two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.seeds import t_probability
from align.evaluation.statistics import (
    RESAMPLES,
    Clusters,
    finite,
    paired_difference,
    standard_error,
    studentised,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from align.types import Result

LEVEL = 0.05
POWER = 0.8

_TOO_FEW = 10  # resamples beyond the observed t: their share then tells little of how rare it is


@dataclass(frozen=True)
class McNemar:
    """p-values of McNemar's test: ``exact`` keeps its level always, ``mid_p`` nearly so with more power."""

    exact: float
    mid_p: float


def mcnemar(only_ours: int, only_theirs: int) -> McNemar:
    """Whether two success rates on the same units differ, from the units on which one alone succeeded.

    Under the null each such unit is a fair coin: exact is twice the smaller binomial tail (1 at most), and
    mid-p twice that tail with the observed count at half its weight (Fagerland, Lydersen and Laake 2013,
    "The McNemar test for binary matched-pairs data"). No such unit gives 1.

    Raises:
        ValueError: a count is negative.
    """
    if min(only_ours, only_theirs) < 0:
        raise ValueError(f"takes counts of 0 at least, got {only_ours} and {only_theirs}")
    n, fewer = only_ours + only_theirs, min(only_ours, only_theirs)
    # whole numbers until the last division: 2^n has no float from n = 1024 on
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    exact = min(1.0, 2 * tail / 2**n)
    return McNemar(exact, min(1.0, (2 * tail - math.comb(n, fewer)) / 2**n))


@dataclass(frozen=True)
class PairedTest:
    """A mean difference with its interval, and the p-value that belongs to that interval."""

    difference: Result
    p: float


def paired_test(
    metric: str, ours: ArrayLike, theirs: ArrayLike, clusters: Clusters = None, seed: int = 0
) -> PairedTest:
    """Mean of ``ours - theirs`` with its bootstrap-t interval, and the test that inverts it.

    p is twice the smaller share of resampled t beyond the observed one, the observed counted among them
    (Davison and Hinkley 1997, eq. 4.11), so that it is below 0.05 where the 95 % interval leaves out 0, but
    for the grain of the resamples. Where fewer than ten of them lie beyond, that grain is too coarse to stand
    a correction for many tests, and p is Student's where that is smaller. Values of one cluster (prompt) are
    resampled together. Where all differences are equal p is 1 at 0, and 2 / (resamples + 1) elsewhere.

    Raises:
        DataError: not as many of ours as of theirs, or fewer than two independent differences.
        NonFiniteError: a value is NaN or infinite.
    """
    difference = paired_difference(metric, ours, theirs, clusters, seed=seed)
    found = studentised(np.asarray(ours, float) - np.asarray(theirs, float), clusters, seed)
    if found.error == 0:
        return PairedTest(difference, 1.0 if found.value == 0 else 2 / (RESAMPLES + 1))
    t = found.value / found.error
    beyond = min(int((found.t >= t).sum()), int((found.t <= t).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(found.t) + 1))
    if beyond < _TOO_FEW:
        p = min(p, 2 * t_probability(-abs(t), difference.n - 1))
    return PairedTest(difference, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: below 0.05 where Holm's (1979) step-down test rejects.

    The i-th smallest of m is multiplied by m - i + 1; none falls below a smaller one's, none above 1. The
    chance that any true null is rejected stays within the level, however the tests depend on each other.

    Raises:
        DataError: a p-value outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise DataError(f"holm: p-values lie in [0, 1], got {list(p_values)}")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def detectable(spread: float, n: int, level: float = LEVEL, power: float = POWER) -> float:
    """Smallest mean difference that n independent units show with probability ``power`` at ``level``.

    (z(1 - level/2) + z(power)) spread / sqrt(n), with ``spread`` the standard deviation of the units'
    differences: 2.80 standard errors (Cohen 1988, chapter 2).
    A win rate without ties has a spread of 1/2.

    Raises:
        DataError: no units, a negative spread, or a level or power outside (0, 1).
    """
    if n < 1 or spread < 0 or not (0 < level < 1 and 0 < power < 1):
        raise DataError(f"detectable: got spread {spread}, n {n}, level {level}, power {power}")
    normal = NormalDist()
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * spread / math.sqrt(n)


def detectable_difference(
    ours: ArrayLike, theirs: ArrayLike, clusters: Clusters = None, level: float = LEVEL
) -> float:
    """``detectable`` of paired values (n,), with the spread of their own differences over clusters.

    Among m tests give ``level`` / m: the smallest of m p-values has to pass that under Holm's correction.
    """
    left, right = finite(ours, "detectable"), finite(theirs, "detectable")
    if len(left) != len(right) or len(left) < 2:
        raise DataError(f"detectable: takes two pairs or more, got {len(left)} and {len(right)} values")
    return detectable(standard_error(left - right, clusters), 1, level)
