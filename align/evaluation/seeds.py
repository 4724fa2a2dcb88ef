"""What the seed does to a number: spread over runs, and means and differences that allow for it.

A run is one unit here, however many prompts its number rests on. Standard library and numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.errors import DataError
from align.evaluation.statistics import CONFIDENCE, finite
from align.types import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FRACTION_TERMS = 400
_TINY = 1e-300


def over_seeds(metric: str, values: ArrayLike, confidence: float = CONFIDENCE) -> Result:
    """Mean of one number a run with Student's (1908) interval: m -/+ t(n - 1) s / sqrt(n).

    It says where the mean over further seeds would lie, if runs are about normal. One run has no interval.

    Raises:
        DataError: no values.
        NonFiniteError: one is NaN or infinite.
    """
    checked = finite(values, metric)
    n, mean = len(checked), math.fsum(checked) / len(checked)
    if n < 2:
        return Result(metric, mean, n, None, None, "exact")
    half = t_quantile((1 + confidence) / 2, n - 1) * seed_spread(checked) / math.sqrt(n)
    return Result(metric, mean, n, mean - half, mean + half, "t over seeds")


def seed_spread(values: ArrayLike) -> float:
    """Standard deviation between runs that differ in nothing but their seed (variance over n - 1).

    Raises:
        DataError: fewer than two runs.
    """
    checked = finite(values, "seed_spread")
    if len(checked) < 2:
        raise DataError("seed_spread: takes two runs or more")
    return float(checked.std(ddof=1))


@dataclass(frozen=True)
class SeedEffect:
    """A difference between two settings, measured in what their seeds do."""

    difference: Result
    p: float
    in_spreads: float | None
    """The difference over the standard deviation between seeds (pooled; Cohen's d); None where that is 0."""


def seed_effect(
    metric: str, ours: ArrayLike, theirs: ArrayLike, confidence: float = CONFIDENCE
) -> SeedEffect:
    """Mean of ours less mean of theirs over runs, by Welch's (1947) test, whose spreads may differ.

    Degrees of freedom are Satterthwaite's. ``n`` is the number of runs on both sides.

    Raises:
        DataError: fewer than two runs on a side.
    """
    left, right = finite(ours, f"{metric} (ours)"), finite(theirs, f"{metric} (theirs)")
    spreads = seed_spread(left), seed_spread(right)
    a, b = (spread**2 / len(side) for spread, side in zip(spreads, (left, right), strict=True))
    value = math.fsum(left) / len(left) - math.fsum(right) / len(right)
    n = len(left) + len(right)
    if a + b == 0:
        return SeedEffect(Result(metric, value, n, value, value, "welch"), float(value == 0), None)
    degrees = (a + b) ** 2 / (a**2 / (len(left) - 1) + b**2 / (len(right) - 1))
    error = math.sqrt(a + b)
    half = t_quantile((1 + confidence) / 2, degrees) * error
    pooled = math.sqrt(((len(left) - 1) * spreads[0] ** 2 + (len(right) - 1) * spreads[1] ** 2) / (n - 2))
    p = 2 * t_probability(-abs(value) / error, degrees)
    return SeedEffect(Result(metric, value, n, value - half, value + half, "welch"), p, value / pooled)


def detectable_over_seeds(
    ours: ArrayLike, theirs: ArrayLike | None = None, level: float = 0.05, power: float = 0.8
) -> float:
    """Smallest difference that as many runs show with probability ``power``, seeds scattering as they do.

    (t(1 - level/2) + t(power)) standard errors at the degrees of freedom of ``seed_effect``, or of
    ``seed_gain`` where there are none of theirs: the usual approximation to the noncentral t.
    """
    left = finite(ours, "detectable_over_seeds")
    a, degrees = seed_spread(left) ** 2 / len(left), float(len(left) - 1)
    if theirs is not None:
        right = finite(theirs, "detectable_over_seeds")
        b = seed_spread(right) ** 2 / len(right)
        degrees = (a + b) ** 2 / (a**2 / degrees + b**2 / (len(right) - 1)) if a + b else degrees
        a += b
    return (t_quantile(1 - level / 2, degrees) + t_quantile(power, degrees)) * math.sqrt(a)


def seed_gain(metric: str, gains: ArrayLike, confidence: float = CONFIDENCE) -> SeedEffect:
    """Mean over runs of what each gained over one and the same reference, by Student's test against 0.

    Raises:
        DataError: fewer than two runs.
    """
    checked, spread = finite(gains, metric), seed_spread(gains)
    result = over_seeds(metric, checked, confidence)
    if spread == 0:
        return SeedEffect(result, float(result.value == 0), None)
    t = abs(result.value) / spread * math.sqrt(result.n)
    return SeedEffect(result, 2 * t_probability(-t, result.n - 1), result.value / spread)


def t_probability(t: float, degrees: float) -> float:
    """P(T <= t) of Student's t with ``degrees`` > 0 of freedom, through the incomplete beta function."""
    if degrees <= 0:
        raise ValueError(f"takes degrees of freedom above 0, got {degrees}")
    tail = _beta_share(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
    return tail if t < 0 else 1 - tail


def t_quantile(probability: float, degrees: float) -> float:
    """t with P(T <= t) = ``probability``, by bisection, to 1e-12 of its size."""
    if not 0 < probability < 1:
        raise ValueError(f"takes a probability between 0 and 1, got {probability}")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if high - low <= 1e-12 * high:
            break
        low, high = (middle, high) if t_probability(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b) (Abramowitz and Stegun 26.5.8, continued fraction)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges fast
        return 1 - _beta_share(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # Lentz's way of evaluating it from the front
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _FRACTION_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = _away(1 + term / c), 1 / _away(1 + term * d)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(front) * value / a


def _away(value: float) -> float:
    """A divisor kept from 0."""
    return value if abs(value) > _TINY else _TINY
