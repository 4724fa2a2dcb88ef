"""Who errs how, and what is true: the EM of Dawid and Skene. Numpy only.

Legend: I items, A annotators, J categories (true and voted), V votes.

Source: Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM
algorithm", Applied Statistics 28(1); the equations below are theirs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from align.agreement.table import Array, Vote
from align.errors import DataError

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """The fitted model; probabilities, each row adding up to 1."""

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    categories: tuple[Hashable, ...]
    posteriors_IJ: Array
    """P(the truth of item i is j | all votes)."""
    confusions_AJJ: Array
    """P(annotator a votes l | the truth is j) at [a, j, l]; of a j that they never met, l = j is taken."""
    prior_J: Array
    """P(the truth is j) before any vote."""
    accuracies_A: Array
    """Share of an annotator's own votes that are the truth, as the posteriors expect it."""
    log_likelihood: float
    """Of all votes, in nats, summed."""
    iterations: int
    converged: bool
    """False where ``iterations`` ran out first."""


@dataclass(frozen=True, eq=False)
class _Votes:
    """Votes as indices, sorted by item: where each item's votes start, and who voted what."""

    starts_I: Indices
    item_V: Indices
    annotator_V: Indices
    value_V: Indices


def dawid_skene(
    votes: Iterable[Vote],
    categories: Sequence[Hashable] | None = None,
    tolerance: float = 1e-8,
    iterations: int = 2000,
) -> DawidSkene:
    """Maximum likelihood by EM, started from each item's shares of votes, so that it always ends the same.

    Annotators are taken to err independently given the truth. Someone may vote on an item several times.
    With a single annotator, or one vote an item, the votes are their own explanation: the posteriors are
    the votes, and accuracies of 1 then mean nothing.

    Args:
        votes: (item, annotator, value) in any order; items and annotators come out in their first's order.
        categories: every value there is; None takes those seen, in the order in which they appear.
        tolerance: ends when no posterior moves by more.
        iterations: ends at the latest after so many.

    Raises:
        DataError: no votes, or a value that is no category.
    """
    cast = list(votes)
    if not cast:
        raise DataError("dawid_skene: there are no votes")
    items, annotators, seen = (tuple(dict.fromkeys(vote[place] for vote in cast)) for place in range(3))
    names = seen if categories is None else tuple(categories)
    if set(seen) - set(names):
        raise DataError(
            f"dawid_skene: the value {sorted(set(seen) - set(names), key=repr)[0]!r} is no category"
        )
    indexed = _indexed(cast, items, annotators, names)
    posteriors_IJ = _shares(indexed, len(items), len(names))
    log_likelihood, count, moved = -np.inf, 0, np.inf
    while moved > tolerance and count < iterations:
        prior_J, confusions_AJJ = _maximised(posteriors_IJ, indexed, len(annotators))
        expected_IJ, log_likelihood = _expected(prior_J, confusions_AJJ, indexed)
        moved = float(np.abs(expected_IJ - posteriors_IJ).max())
        posteriors_IJ, count = expected_IJ, count + 1
    return DawidSkene(
        items,
        annotators,
        names,
        posteriors_IJ,
        confusions_AJJ,
        prior_J,
        _accuracies(posteriors_IJ, indexed, len(annotators)),
        log_likelihood,
        count,
        moved <= tolerance,
    )


def _indexed(
    votes: Sequence[Vote],
    items: Sequence[Hashable],
    annotators: Sequence[Hashable],
    categories: Sequence[Hashable],
) -> _Votes:
    places = [{name: place for place, name in enumerate(names)} for names in (items, annotators, categories)]
    columns = [np.array([places[k][vote[k]] for vote in votes], dtype=np.intp) for k in range(3)]
    order = np.lexsort(columns[::-1])  # by item, annotator, value: equal votes add up in one order
    item_V, annotator_V, value_V = (column[order] for column in columns)
    return _Votes(np.searchsorted(item_V, np.arange(len(items))), item_V, annotator_V, value_V)


def _shares(votes: _Votes, items: int, categories: int) -> Array:
    """Eq. 3.1: an item's posterior before anything is known of the annotators."""
    counts_IJ = np.zeros((items, categories))
    np.add.at(counts_IJ, (votes.item_V, votes.value_V), 1.0)
    shares: Array = counts_IJ / counts_IJ.sum(-1, keepdims=True)
    return shares


def _maximised(posteriors_IJ: Array, votes: _Votes, annotators: int) -> tuple[Array, Array]:
    """Eq. 2.3 and 2.4: confusions and prior that make the votes likeliest under these posteriors."""
    categories = posteriors_IJ.shape[1]
    sums_ALJ = np.zeros((annotators, categories, categories))
    np.add.at(sums_ALJ, (votes.annotator_V, votes.value_V), posteriors_IJ[votes.item_V])
    sums_AJL = sums_ALJ.transpose(0, 2, 1)
    met_AJ1 = sums_AJL.sum(-1, keepdims=True)
    confusions_AJL = np.broadcast_to(np.eye(categories), sums_AJL.shape).copy()
    np.divide(sums_AJL, met_AJ1, out=confusions_AJL, where=met_AJ1 > 0)
    return posteriors_IJ.mean(0), confusions_AJL


def _expected(prior_J: Array, confusions_AJJ: Array, votes: _Votes) -> tuple[Array, float]:
    """Eq. 2.5: posteriors under this prior and these confusions; and the log-likelihood of all votes."""
    with np.errstate(divide="ignore"):  # log 0 = -inf rules a truth out; one at least is always left
        log_prior_J, log_confusions_AJJ = np.log(prior_J), np.log(confusions_AJJ)
    each_VJ = log_confusions_AJJ[votes.annotator_V, :, votes.value_V]
    joint_IJ = log_prior_J + np.add.reduceat(each_VJ, votes.starts_I, axis=0)
    most_I1 = joint_IJ.max(-1, keepdims=True)
    scaled_IJ = np.exp(joint_IJ - most_I1)
    sums_I1 = scaled_IJ.sum(-1, keepdims=True)
    return scaled_IJ / sums_I1, float((most_I1 + np.log(sums_I1)).sum())


def _accuracies(posteriors_IJ: Array, votes: _Votes, annotators: int) -> Array:
    right_V = posteriors_IJ[votes.item_V, votes.value_V]
    sums_A = np.bincount(votes.annotator_V, weights=right_V, minlength=annotators)
    accuracies: Array = sums_A / np.bincount(votes.annotator_V, minlength=annotators)
    return accuracies
