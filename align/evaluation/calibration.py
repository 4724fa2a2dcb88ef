"""Whether a reward model's probabilities mean what they say, and where it is right. Numpy only.

A Bradley-Terry model gives a pair's chosen reply the probability sigmoid(margin).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import Clusters, finite, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from align.types import Result

    Array = NDArray[np.float64]

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Cases whose number lies in [low, high] (where bins meet, the upper one has the bound)."""

    low: float
    high: float
    mean: float
    """Mean of the number that was binned."""
    share: Result
    """How often the outcome came about, with its interval; ``n`` says over how many units."""


@dataclass(frozen=True)
class Calibration:
    """A reliability curve and its summaries.

    ``brier`` = ``reliability`` - ``resolution`` + ``uncertainty`` + ``within`` exactly.
    """

    curve: tuple[Bin, ...]
    ece: float
    """Expected calibration error: mean distance of bins' probabilities from shares (Naeini et al. 2015)."""
    brier: float
    """Mean squared distance of probability and outcome (Brier 1950)."""
    reliability: float
    resolution: float
    uncertainty: float
    """Murphy's (1973) parts: distance from the diagonal, spread of the shares, variance of the outcome."""
    within: float
    """What binning leaves over: variance less twice the covariance within bins (Stephenson et al. 2008)."""


def calibration(
    metric: str, probabilities: ArrayLike, outcomes: ArrayLike, clusters: Clusters = None, bins: int = BINS
) -> Calibration:
    """Probabilities (B,) of an event against whether it came about (B,; 0 or 1), in bins of equal width.

    Raises:
        DataError: no values, numbers that differ, probabilities outside [0, 1], outcomes other than 0 and 1.
    """
    p, y = finite(probabilities, metric), finite(outcomes, metric)
    if len(p) != len(y) or p.min() < 0 or p.max() > 1 or not np.isin(y, (0.0, 1.0)).all():
        raise DataError(f"{metric}: takes as many probabilities in [0, 1] as outcomes 0 or 1")
    edges = np.linspace(0, 1, bins + 1)
    curve, members = _binned(metric, p, y, clusters, edges)
    weights = np.array([len(index) for index in members]) / len(p)
    means = np.array([p[index].mean() for index in members])
    shares = np.array([y[index].mean() for index in members])
    within = sum(
        float(((p[index] - p[index].mean()) ** 2).sum())
        - 2 * float(((p[index] - p[index].mean()) * (y[index] - y[index].mean())).sum())
        for index in members
    )
    return Calibration(
        curve=tuple(curve),
        ece=float((weights * np.abs(means - shares)).sum()),
        brier=float(((p - y) ** 2).mean()),
        reliability=float((weights * (means - shares) ** 2).sum()),
        resolution=float((weights * (shares - y.mean()) ** 2).sum()),
        uncertainty=float(y.mean() * (1 - y.mean())),
        within=within / len(p),
    )


def of_margins(metric: str, margins: ArrayLike, clusters: Clusters = None, bins: int = BINS) -> Calibration:
    """A reward model on pairs, from the margins (B,) by which it scores chosen above rejected.

    The event is that the reply it prefers is the chosen one, with probability sigmoid(|margin|): which of the
    two stands first tells nothing then. Margins of 0 say nothing and are left out.

    Raises:
        DataError: as ``calibration``; every margin is 0.
    """
    said = claims(metric, margins, clusters)
    return calibration(metric, said.chances, said.right, said.keys, bins)


@dataclass(frozen=True)
class Claims:
    """What margins claim (B,), whether it is so (B,; 0 or 1), and which unit each belongs to."""

    chances: Array
    right: Array
    sizes: Array
    """Size of the margins (B,), in nats of log odds."""
    keys: list[Hashable]


def claims(metric: str, margins: ArrayLike, clusters: Clusters = None) -> Claims:
    """The event is that the reply a model prefers is the chosen one; margins of 0 say nothing: left out.

    Raises:
        DataError: every margin is 0, or there are none; numbers of margins and clusters that differ.
    """
    found = finite(margins, metric)
    if clusters is not None and len(clusters) != len(found):
        raise DataError(f"{metric}: {len(found)} margins, but {len(clusters)} keys of clusters")
    kept = np.flatnonzero(found != 0)
    if not kept.size:
        raise DataError(f"{metric}: the model scores every pair alike")
    keys: list[Hashable] = [int(place) if clusters is None else clusters[int(place)] for place in kept]
    sizes = np.abs(found[kept])
    return Claims(1 / (1 + np.exp(-sizes)), (found[kept] > 0).astype(np.float64), sizes, keys)


def accuracy_by(
    metric: str, margins: ArrayLike, by: ArrayLike, clusters: Clusters = None, bins: int = 5
) -> list[Bin]:
    """Accuracy (ties half) of margins (B,) in bins of another number of the pairs (B,), equally filled.

    ``by`` may be a label's own margin or the difference of the replies' lengths; pairs alike in it share a
    bin, so that there may be fewer bins than asked for.

    Raises:
        DataError: no pairs, or numbers that differ.
    """
    found, numbers = finite(margins, metric), finite(by, metric)
    if len(found) != len(numbers):
        raise DataError(f"{metric}: {len(found)} margins, but {len(numbers)} numbers to bin by")
    alike = np.unique(numbers)
    if len(alike) <= bins:
        edges = np.append(
            alike, alike[-1]
        )  # a bin a value (shares of votes, say): quantiles would merge them
    else:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)))
    return _binned(metric, numbers, (np.sign(found) + 1) / 2, clusters, edges)[0]


def _binned(
    metric: str, numbers: Array, outcomes: Array, clusters: Clusters, edges: Array
) -> tuple[list[Bin], list[NDArray[np.intp]]]:
    """Bins that hold something, and the places of their members."""
    places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    curve, members = [], []
    for place in np.unique(places):
        index = np.flatnonzero(places == place)
        keys = None if clusters is None else [clusters[int(one)] for one in index]
        share = proportion(metric, outcomes[index], keys)
        mean = math.fsum(numbers[index]) / len(index)
        curve.append(Bin(float(edges[place]), float(edges[place + 1]), mean, share))
        members.append(index)
    return curve, members
