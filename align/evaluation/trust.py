"""How far a reward model's margins can be taken at their word: numbers with intervals. Numpy only.

The expected calibration error itself has no interval here: it sums absolute values, so that a calibrated
model shows one above 0 too (Roelofs et al. 2022, "Mitigating bias in calibration error estimation"). What it
would show by chance alone is said instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from align.evaluation.calibration import BINS, Claims, claims
from align.evaluation.logistic import logistic_fit
from align.evaluation.statistics import Clusters, mean, normal
from align.types import Result

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import ArrayLike, NDArray

_DRAWS = 2000


def slope(metric: str, margins: ArrayLike, clusters: Clusters = None) -> Result:
    """By which factor margins (B,) should be multiplied: P(the preferred reply is the chosen one) =
    sigmoid(slope |margin|), by maximum likelihood (Cox 1958, "Two further applications of a model for binary
    regression", without his intercept: which reply stands first tells nothing).

    1 is calibrated, below 1 overconfident, above 1 too timid. The interval is normal with the sandwich over
    clusters.

    Raises:
        NoFit: the model is right on every pair, or wrong on every one.
        DataError: fewer than two units; every margin is 0.
    """
    said = claims(metric, margins, clusters)
    # in units of the typical margin, so that Newton's steps have a sensible size whatever the scale
    scale = float(said.sizes.mean())
    fit = logistic_fit(metric, said.sizes[:, None] / scale, said.right, said.keys)
    value, error = float(fit.coefficients_C[0]) / scale, math.sqrt(float(fit.covariance_CC[0, 0])) / scale
    bounds = normal(value, error)
    return Result(metric, value, fit.units, bounds.low, bounds.high, "sandwich")


def overconfidence(metric: str, margins: ArrayLike, clusters: Clusters = None) -> Result:
    """Mean of what margins (B,) claim less how often they are right: above 0 where they claim too much."""
    said = claims(metric, margins, clusters)
    return mean(metric, said.chances - said.right, said.keys)


def brier_score(metric: str, margins: ArrayLike, clusters: Clusters = None) -> Result:
    """Mean squared distance of probability and outcome (Brier 1950); 1/4 is what a coin has."""
    said = claims(metric, margins, clusters)
    return mean(metric, (said.chances - said.right) ** 2, said.keys)


def error_by_chance(
    metric: str, margins: ArrayLike, clusters: Clusters = None, bins: int = BINS, seed: int = 0
) -> float:
    """The expected calibration error that a calibrated model exceeds once in twenty, on pairs like these.

    Outcomes are drawn as the margins (B,) claim (Bröcker and Smith 2007, "Increasing the reliability of
    reliability diagrams"), each bin's sum as the normal number of its mean and variance. Where pairs share
    clusters the variances grow by the design effect of claims less outcomes within bins (Kish 1965).
    """
    said = claims(metric, margins, clusters)
    places = np.clip((said.chances * bins).astype(int), 0, bins - 1)
    size = len(places)
    variances = np.bincount(places, said.chances * (1 - said.chances), bins) / size**2
    drawn = np.random.default_rng(seed).normal(size=(_DRAWS, bins))
    drawn *= np.sqrt(variances * _design_effect(said, places))
    return float(np.quantile(np.abs(drawn).sum(1), 0.95))


def _design_effect(said: Claims, places: NDArray[np.intp]) -> float:
    """Variance of bins' sums over clusters, over what it were if pairs stood alone; never below 1."""
    residuals = said.chances - said.right
    counts = np.maximum(np.bincount(places), 1)
    residuals = residuals - (np.bincount(places, residuals) / counts)[places]
    sums: dict[tuple[Hashable, int], float] = {}
    for key, place, one in zip(said.keys, places.tolist(), residuals.tolist(), strict=True):
        sums[key, place] = sums.get((key, place), 0.0) + one
    alone = float((residuals**2).sum())
    return max(1.0, math.fsum(one * one for one in sums.values()) / alone) if alone else 1.0
