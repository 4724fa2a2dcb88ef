"""Win rates as they would be if replies were equally long. Numpy and the standard library only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.logistic import NoFit, logistic_fit, sigmoid
from align.evaluation.statistics import Clusters, finite, normal
from align.types import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


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
    columns = [np.ones_like(x)]
    if np.ptp(x) > 0:
        columns.append(np.tanh(x / x.std(ddof=1)))
    elif x[0] != 0:
        raise DataError(f"{metric}: every reply is {x[0]:+g} longer, so that equal lengths are never seen")
    design = np.stack(columns, axis=1)
    try:
        fit = logistic_fit(metric, design, y, keys)
    except NoFit as error:
        told = "lengths tell wins from losses, or one side won all: no fit exists"
        raise DataError(f"{metric}: {told}") from error
    theta, spread = float(fit.coefficients_C[0]), math.sqrt(max(0.0, float(fit.covariance_CC[0, 0])))
    bounds = normal(theta, spread)
    low, value, high = (float(sigmoid(np.float64(z))) for z in (bounds.low, theta, bounds.high))
    return Result(metric, value, fit.units, low, high, "length-controlled")
