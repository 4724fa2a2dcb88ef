"""Many policies against each other: the matrix of win rates, and one scale that they all stand on.

Legend: K policies, P prompts (or other independent units). Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from align.errors import DataError, NonFiniteError
from align.evaluation.statistics import normal
from align.types import Result

Array = NDArray[np.float64]

_NEWTON_STEPS = 100


def wins_by_prompt(scores_KP: ArrayLike) -> Array:
    """Wins (P, K, K): on each prompt 1 where the row's policy scores above the column's, 1/2 where alike.

    The diagonal is 0: nobody plays against itself.

    Raises:
        DataError: scores are not one row a policy.
        NonFiniteError: a score is NaN or infinite.
    """
    scores = np.asarray(scores_KP, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise DataError(f"wins: takes one row of scores a policy, got an array of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise NonFiniteError("wins: a score is not finite")
    wins: Array = (np.sign(scores.T[:, :, None] - scores.T[:, None, :]) + 1) / 2
    wins[:, np.arange(len(scores)), np.arange(len(scores))] = 0.0
    return wins


def win_rates(wins_PKK: Array) -> Array:
    """Share (K, K) of their meetings that the row's policy won against the column's; NaN where none met."""
    wins = wins_PKK.sum(0)
    met = wins + wins.T
    rates: Array = np.divide(wins, met, out=np.full_like(wins, np.nan), where=met > 0)
    return rates


def bradley_terry(names: Sequence[str], wins_PKK: ArrayLike) -> list[Result]:
    """Strength of each policy on one scale: P(i beats j) = sigmoid(s_i - s_j) (Bradley and Terry 1952).

    Maximum likelihood, with strengths that sum to 0 (nats: log odds) and a tie as half a win of each. The
    intervals are normal with the sandwich H^-1 (sum of g g') H^-1 over prompts (Huber 1967; White 1982):
    all meetings on one prompt move together, so that one prompt is one unit. Results are named as the
    policies, in their order.

    Raises:
        DataError: names and wins do not fit, fewer than two prompts, or strengths without a maximum: policies
            that fall into two sets one of which never lost to the other (Ford 1957).
    """
    wins_PKK = np.asarray(wins_PKK, dtype=np.float64)
    if wins_PKK.ndim != 3 or wins_PKK.shape[1:] != (len(names), len(names)) or len(wins_PKK) < 2:
        raise DataError(f"bradley_terry: {len(names)} names and two prompts or more, got {wins_PKK.shape}")
    wins_KK = wins_PKK.sum(0)
    _refuse_unconnected(names, wins_KK)
    strengths_K = _maximum(wins_KK)
    chances_KK = _chances(strengths_K)
    inverse_KK = _inverse(_information(wins_KK, chances_KK))
    # the gradient of one prompt: its wins less those that the strengths lead one to expect
    gradients_PK = (wins_PKK - (wins_PKK + wins_PKK.transpose(0, 2, 1)) * chances_KK).sum(2)
    prompts = len(wins_PKK)
    meat_KK = gradients_PK.T @ gradients_PK * prompts / (prompts - 1)
    errors_K = np.sqrt(np.maximum(np.diag(inverse_KK @ meat_KK @ inverse_KK), 0.0))
    return [
        Result(name, value, prompts, interval.low, interval.high, "sandwich")
        for name, value, interval in (
            (name, float(value), normal(float(value), float(error)))
            for name, value, error in zip(names, strengths_K, errors_K, strict=True)
        )
    ]


def gradient(strengths_K: Array, wins_KK: Array) -> Array:
    """Derivative (K,) of the log likelihood: 0 at its maximum."""
    total: Array = (wins_KK - (wins_KK + wins_KK.T) * _chances(strengths_K)).sum(1)
    return total


def _maximum(wins_KK: Array) -> Array:
    """Newton's method from all alike; the likelihood is concave, and a step is halved while it overshoots."""
    strengths = np.zeros(len(wins_KK))
    for _ in range(_NEWTON_STEPS):
        step = _inverse(_information(wins_KK, _chances(strengths))) @ gradient(strengths, wins_KK)
        while _likelihood(strengths + step, wins_KK) < _likelihood(strengths, wins_KK) - 1e-9:
            step /= 2
        strengths = strengths + step
        if np.abs(step).max() < 1e-12:
            break
    centred: Array = strengths - strengths.mean()
    return centred


def _likelihood(strengths_K: Array, wins_KK: Array) -> float:
    return float(-(wins_KK * np.logaddexp(0.0, strengths_K[None, :] - strengths_K[:, None])).sum())


def _chances(strengths_K: Array) -> Array:
    chances: Array = np.exp(-np.logaddexp(0.0, strengths_K[None, :] - strengths_K[:, None]))
    return chances


def _information(wins_KK: Array, chances_KK: Array) -> Array:
    weights = (wins_KK + wins_KK.T) * chances_KK * (1 - chances_KK)
    information: Array = np.diag(weights.sum(1)) - weights
    return information


def _inverse(information_KK: Array) -> Array:
    """Its inverse among strengths that sum to 0."""
    ones = np.full_like(information_KK, 1 / len(information_KK))
    inverse: Array = np.linalg.inv(information_KK + ones) - ones
    return inverse


def _refuse_unconnected(names: Sequence[str], wins_KK: Array) -> None:
    reach = (wins_KK > 0) | np.eye(len(names), dtype=bool)
    for _ in names:
        reach = reach @ reach
    for index, row in enumerate(reach):
        if not row.all():
            beaten = ", ".join(name for name, seen in zip(names, row, strict=True) if not seen)
            raise DataError(
                f"bradley_terry: nothing leads from {names[index]} by wins to {beaten}: the strengths lie "
                f"infinitely far apart"
            )
