"""Dawid and Skene's EM: their own data, one step by hand, and simulated annotators of known habits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from align.agreement.dawid_skene import dawid_skene
from align.agreement.table import Vote
from align.errors import DataError

ANAESTHETISTS = """
111 1 1 1 1  333 4 3 3 4  112 2 1 2 2  222 3 1 2 1  222 3 2 2 2  222 3 3 2 2  122 2 1 1 1  333 3 4 3 3
222 2 2 2 3  232 2 2 2 3  444 4 4 4 4  222 3 3 4 3  111 1 1 1 1  222 3 2 1 2  121 1 1 1 1  111 2 1 1 1
111 1 1 1 1  111 1 1 1 1  222 2 2 2 1  222 1 3 2 2  222 2 2 2 2  222 2 2 2 1  222 3 2 2 2  221 2 2 2 2
111 1 1 1 1  111 1 1 1 1  232 2 2 2 2  111 1 1 1 1  111 1 1 1 1  112 1 1 2 1  111 1 1 1 1  333 3 2 3 3
111 1 1 1 1  222 2 2 2 2  222 3 2 3 2  433 4 3 4 3  221 2 2 3 2  232 3 2 3 3  333 3 4 3 2  111 1 1 1 1
111 1 1 1 1  121 2 1 1 1  232 2 2 2 2  121 1 1 1 1  222 2 2 2 2
"""
"""Dawid and Skene (1979), table 1: 45 patients, five observers, the first of whom saw each three times."""


def _anaesthetists() -> list[Vote]:
    cells = ANAESTHETISTS.split()
    return [(k // 5, k % 5 + 1, int(grade)) for k, cell in enumerate(cells) for grade in cell]


def test_their_own_data() -> None:
    """Tables 2 and 3 as printed: class shares .40 .42 .11 .07, and the first observer's error rates.

    Two patients of whom the majority would say otherwise: the second (3 3 3, 4, 3, 3, 4) is of class 4.
    """
    fitted = dawid_skene(_anaesthetists(), [1, 2, 3, 4])
    assert fitted.converged
    assert fitted.prior_J == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=5e-3)
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert fitted.confusions_AJJ[0] == pytest.approx(np.array(first), abs=5e-3)
    assert fitted.posteriors_IJ[1].argmax() == 3
    assert fitted.posteriors_IJ.sum(-1) == pytest.approx(1)
    assert fitted.confusions_AJJ.sum(-1) == pytest.approx(np.ones((5, 4)))


def test_one_step_by_hand() -> None:
    """Item x: a a b, item y: b b b, of annotators 1, 2, 3. Shares: x (2/3, 1/3), y (0, 1).

    Prior (1/3, 2/3). Annotators 1 and 2: of a, x alone with vote a: (1, 0); of b, x with 1/3 and vote a, y
    with 1 and vote b: (1/4, 3/4). Annotator 3 says b of everything. Then x: a with 1/3, b with
    2/3 (1/4)^2 = 1/24, so 8/9 and 1/9; y: a with 0, b with 2/3 (3/4)^2 = 3/8. Likelihood: 3/8 each.
    """
    votes: list[Vote] = [
        ("x", 1, "a"),
        ("x", 2, "a"),
        ("x", 3, "b"),
        ("y", 1, "b"),
        ("y", 2, "b"),
        ("y", 3, "b"),
    ]
    step = dawid_skene(votes, "ab", iterations=1)
    assert (step.iterations, step.converged) == (1, False)
    assert step.prior_J == pytest.approx([1 / 3, 2 / 3])
    assert step.confusions_AJJ[0] == pytest.approx(np.array([[1, 0], [1 / 4, 3 / 4]]))
    assert step.confusions_AJJ[1].tolist() == step.confusions_AJJ[0].tolist()
    assert step.confusions_AJJ[2] == pytest.approx(np.array([[0, 1], [0, 1]]))
    assert step.posteriors_IJ == pytest.approx(np.array([[8 / 9, 1 / 9], [0, 1]]))
    assert step.log_likelihood == pytest.approx(2 * math.log(3 / 8))
    assert step.accuracies_A == pytest.approx([(8 / 9 + 1) / 2] * 2 + [(1 / 9 + 1) / 2])


def test_known_habits_are_found() -> None:
    """3,000 items of classes 60/40, five annotators, the last of whom turns everything round.

    A row of a confusion matrix rests on 1,200 items at least: standard error 0.014, four of them 0.06.
    """
    rng = np.random.default_rng(1)
    truth = (rng.random(3000) < 0.4).astype(int)
    right = np.array([[0.9, 0.8], [0.7, 0.9], [0.85, 0.85], [0.8, 0.6], [0.1, 0.2]])
    votes: list[Vote] = [
        (item, who, int(known if rng.random() < right[who, known] else 1 - known))
        for item, known in enumerate(truth)
        for who in range(5)
    ]
    fitted = dawid_skene(votes, [0, 1])
    assert fitted.converged
    assert fitted.prior_J == pytest.approx([0.6, 0.4], abs=0.04)
    assert np.diagonal(fitted.confusions_AJJ, axis1=1, axis2=2) == pytest.approx(right, abs=0.06)
    majority = np.bincount([vote[0] for vote in votes], weights=[vote[2] for vote in votes]) > 2.5  # type: ignore[arg-type]
    habits = np.diagonal(fitted.confusions_AJJ, axis1=1, axis2=2) @ fitted.prior_J
    assert fitted.accuracies_A == pytest.approx(habits, abs=1e-6)  # all voted on all items
    found = fitted.posteriors_IJ.argmax(-1)
    assert (found == truth).mean() > (majority == truth).mean() + 0.05


def test_likelihood_never_falls() -> None:
    """EM's own guarantee, step by step on the anaesthetists."""
    steps = [dawid_skene(_anaesthetists(), iterations=k).log_likelihood for k in range(1, 15)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(steps))


def test_order_of_votes_does_not_matter() -> None:
    votes = _anaesthetists()
    there, back = dawid_skene(votes, [1, 2, 3, 4]), dawid_skene(votes[::-1], [1, 2, 3, 4])
    assert back.items == there.items[::-1]
    assert back.posteriors_IJ[::-1] == pytest.approx(there.posteriors_IJ, abs=1e-9)


def test_votes_that_say_little() -> None:
    """One annotator, and one vote an item: their word is all there is. Nothing becomes NaN."""
    for votes in ([("x", 1, "a"), ("y", 1, "b")], [("x", 1, "a"), ("y", 2, "b")], [("x", 1, "a")]):
        fitted = dawid_skene(votes, "abc")
        assert fitted.posteriors_IJ.argmax(-1).tolist() == ["abc".index(str(vote[2])) for vote in votes]
        assert fitted.confusions_AJJ[0].tolist() == np.eye(3).tolist()
        assert fitted.accuracies_A.tolist() == [1] * len(fitted.annotators)


def test_refusals() -> None:
    with pytest.raises(DataError, match="no votes"):
        dawid_skene([])
    with pytest.raises(DataError, match="'c' is no category"):
        dawid_skene([("x", 1, "c")], "ab")
