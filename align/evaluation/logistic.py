"""Logistic regression, with errors that let outcomes of one unit move together. Numpy only.

Legend: N outcomes, C columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_NEWTON_STEPS = 60
_FARTHEST = 20.0  # log odds: beyond, the likelihood has no maximum that float64 sees


class NoFit(DataError):
    """The likelihood has no maximum: the columns tell the outcomes apart, or all outcomes are alike."""


@dataclass(frozen=True)
class Fit:
    """Coefficients (C,) in nats of log odds, and their covariance (C, C) over units."""

    coefficients_C: Array
    covariance_CC: Array
    units: int


def logistic_fit(metric: str, design_NC: Array, outcomes_N: Array, keys: Sequence[Hashable]) -> Fit:
    """P(1) = sigmoid(design @ coefficients), for outcomes in [0, 1]; equal keys belong to one unit.

    The covariance is the sandwich H^-1 (sum of g g') H^-1 over units (Huber 1967; White 1982).

    Raises:
        DataError: numbers of keys and outcomes that differ, or fewer than two units.
        NoFit: the columns tell the outcomes apart, or all are alike.
    """
    if len(keys) != len(outcomes_N):
        raise DataError(f"{metric}: {len(outcomes_N)} outcomes, but {len(keys)} keys of clusters")
    units = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    n = len(units)
    if n < 2:
        raise DataError(f"{metric}: takes two independent outcomes or more, got {n}")
    theta_C, inverse_CC = _maximum(metric, design_NC, outcomes_N)
    residuals_NC = (outcomes_N - sigmoid(design_NC @ theta_C))[:, None] * design_NC
    scores = np.zeros((n, design_NC.shape[1]))
    np.add.at(scores, [units[key] for key in keys], residuals_NC)
    return Fit(theta_C, inverse_CC @ (scores.T @ scores * n / (n - 1)) @ inverse_CC, n)


def sigmoid(z: Array | np.float64) -> Array:
    """1 / (1 + exp(-z)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


def _maximum(metric: str, design_NC: Array, outcomes_N: Array) -> tuple[Array, Array]:
    """Coefficients, and the inverse of the information there."""
    theta_C: Array = np.zeros(design_NC.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(design_NC @ theta_C)
        information = design_NC.T @ ((p * (1 - p))[:, None] * design_NC)
        if np.linalg.cond(information) > 1e12:
            break
        inverse_CC: Array = np.linalg.inv(information).astype(np.float64)
        step = inverse_CC @ (design_NC.T @ (outcomes_N - p))
        theta_C = theta_C + step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        if np.abs(theta_C).max() > _FARTHEST:
            break
        if np.abs(step).max() < 1e-11:
            return theta_C, inverse_CC
    raise NoFit(f"{metric}: what is known tells the outcomes apart, or all are alike: no fit exists")
