"""Win rates as they would be if replies were equally long. Numpy and the standard library only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import Clusters, finite, normal
from align.types import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

_NEWTON_STEPS = 60
_FARTHEST = 20.0  # log odds: beyond, the likelihood has no maximum that float64 sees


def length_controlled(
    metric: str,
    outcomes: ArrayLike,
    lengths: ArrayLike,
    other_lengths: ArrayLike,
    clusters: Clusters = None,
) -> Result:
    """Win rate at equal lengths, by the regression of Dubois et al. (2024), "Length-controlled AlpacaEval".

    P(win) = sigmoid(theta + phi tanh((l - l') / std(l - l'))) is fitted by maximum likelihood to outcomes 0,
    1/2 and 1, and sigmoid(theta) is reported: their equation 2 without the difficulty of instructions,
    whose coefficients come from a leaderboard of other models. A policy against itself has 1/2, and A against
    B one minus B against A. The interval is that of theta (sandwich over clusters), through the sigmoid.

    Raises:
        DataError: numbers of values that differ, outcomes outside [0, 1], fewer than two units, or wins that
            lengths tell apart (no fit exists; so where one side won all).
    """
    y, x = finite(outcomes, metric), finite(lengths, metric) - finite(other_lengths, metric)
    if len(x) != len(y):
        raise DataError(f"{metric}: {len(y)} outcomes, but {len(x)} lengths")
    if y.min() < 0 or y.max() > 1:
        raise DataError(f"{metric}: outcomes lie between 0 and 1")
    keys = list(range(len(y))) if clusters is None else list(clusters)
    if len(keys) != len(y):
        raise DataError(f"{metric}: {len(y)} outcomes, but {len(keys)} keys of clusters")
    units = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    if len(units) < 2:
        raise DataError(f"{metric}: takes two independent outcomes or more, got {len(units)}")
    columns = [np.ones_like(x)]
    if np.ptp(x) > 0:
        columns.append(np.tanh(x / x.std(ddof=1)))
    elif x[0] != 0:
        raise DataError(f"{metric}: every reply is {x[0]:+g} longer, so that equal lengths are never seen")
    design = np.stack(columns, axis=1)
    theta, inverse = _fitted(metric, design, y)
    residuals = (y - _sigmoid(design @ theta))[:, None] * design
    scores = np.zeros((len(units), design.shape[1]))
    np.add.at(scores, [units[key] for key in keys], residuals)
    n = len(units)
    covariance = inverse @ (scores.T @ scores * n / (n - 1)) @ inverse
    bounds = normal(float(theta[0]), math.sqrt(max(0.0, float(covariance[0, 0]))))
    low, value, high = (float(_sigmoid(np.float64(z))) for z in (bounds.low, theta[0], bounds.high))
    return Result(metric, value, n, low, high, "length-controlled")


def _fitted(metric: str, design: Array, y: Array) -> tuple[Array, Array]:
    """Coefficients of the logistic regression, and the inverse of the information there."""
    theta: Array = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(design @ theta)
        information = design.T @ ((p * (1 - p))[:, None] * design)
        if np.linalg.cond(information) > 1e12:
            break
        inverse: Array = np.linalg.inv(information).astype(np.float64)
        step = inverse @ (design.T @ (y - p))
        theta = theta + step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        if np.abs(theta).max() > _FARTHEST:
            break
        if np.abs(step).max() < 1e-11:
            return theta, inverse
    raise DataError(f"{metric}: lengths tell wins from losses, or one side won all: no fit exists")


def _sigmoid(z: Array | np.float64) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))
