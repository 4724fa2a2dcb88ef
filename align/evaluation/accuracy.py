"""How often a reward model scores the chosen reply above the rejected one, and how often any could."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import Clusters, finite, mean, paired_difference, paired_win_rate, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from align.types import Result


def accuracy(
    chosen_scores: ArrayLike, rejected_scores: ArrayLike, clusters: Clusters = None, label: str = "reward"
) -> list[Result]:
    """A reward model on preference pairs (B,): ``<label>/accuracy``, ``<label>/ties``, ``<label>/margin``.

    Accuracy is the share of pairs whose chosen reply scores higher, a tie counted half; ``ties`` is the
    share of ties (a model that scores all alike shows there); ``margin`` the mean score difference in
    the model's own units. ``clusters``: the prompt of each pair, where prompts recur.

    Raises:
        DataError: no pairs, or not as many chosen as rejected scores.
        NonFiniteError: a score is NaN or infinite.
    """
    right = paired_win_rate(f"{label}/accuracy", chosen_scores, rejected_scores, clusters)
    margin = paired_difference(f"{label}/margin", chosen_scores, rejected_scores, clusters)
    ties = np.equal(np.asarray(chosen_scores, float), np.asarray(rejected_scores, float))
    return [right, proportion(f"{label}/ties", ties, clusters), margin]


def bayes_accuracy(probabilities: ArrayLike, clusters: Clusters = None, label: str = "reward") -> Result:
    """``<label>/bayes_accuracy``: what no reward model can beat in expectation, mean of max(p, 1 - p).

    ``probabilities`` (B,) are the labeller's own P(first preferred), noise included, of the same pairs.
    A model may exceed it on one test set by chance: labels are draws.

    Raises:
        DataError: no pairs, or a number outside [0, 1].
        NonFiniteError: a probability is NaN or infinite.
    """
    metric = f"{label}/bayes_accuracy"
    p = finite(probabilities, metric)
    if p.min() < 0 or p.max() > 1:
        raise DataError(f"{metric}: probabilities lie in [0, 1], got {p.min():g} to {p.max():g}")
    return mean(metric, np.maximum(p, 1 - p), clusters)
