"""Bradley-Terry where it can be solved by hand, and where its likelihood is flat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError, NonFiniteError
from align.evaluation.ranking import bradley_terry, gradient, win_rates, wins_by_prompt


def _played(wins: list[list[int]]) -> np.ndarray:
    """As many prompts as there were meetings, one win on each."""
    prompts = []
    for winner, row in enumerate(wins):
        for loser, times in enumerate(row):
            for _ in range(times):
                one = np.zeros((len(wins), len(wins)))
                one[winner, loser] = 1
                prompts.append(one)
    return np.array(prompts)


def test_two_policies() -> None:
    """3 wins of 4: log odds log 3, half on each side; variance of the log odds 1/3 + 1/1, a quarter of it
    each, with 4/3 for the sandwich over 4 prompts."""
    a, b = bradley_terry(["a", "b"], _played([[0, 3], [1, 0]]))
    assert (a.value, b.value) == pytest.approx((math.log(3) / 2, -math.log(3) / 2), abs=1e-12)
    assert a.ci_high is not None
    assert (a.ci_high - a.value) / 1.959964 == pytest.approx(math.sqrt((1 / 3 + 1) / 4 * 4 / 3), abs=1e-6)
    assert (a.n, a.method) == (4, "sandwich")


def test_strengths_that_the_wins_follow_exactly() -> None:
    """Wins in proportion 4 : 2 : 1 are what strengths log 4, log 2, 0 expect, less their mean log 2."""
    found = bradley_terry(["a", "b", "c"], _played([[0, 4, 4], [2, 0, 2], [1, 1, 0]]))
    assert [one.value for one in found] == pytest.approx([math.log(2), 0.0, -math.log(2)], abs=1e-10)


def test_the_likelihood_is_flat_at_the_strengths_and_nowhere_near() -> None:
    wins = np.random.default_rng(0).integers(1, 30, size=(6, 6)) * (1 - np.eye(6))
    strengths = np.array([one.value for one in bradley_terry([*"abcdef"], np.stack([wins / 2, wins / 2]))])
    assert np.abs(gradient(strengths, wins)).max() < 1e-9
    assert strengths.sum() == pytest.approx(0, abs=1e-12)
    assert np.abs(gradient(strengths + np.eye(6)[0] * 0.1, wins)).max() > 0.1


def test_wins_on_one_prompt_are_one_unit() -> None:
    """Each prompt scored five times over by the same policies: intervals are those of the prompts."""
    scores = np.random.default_rng(1).normal(size=(3, 80)) + np.array([[0.5], [0.0], [-0.3]])
    once = bradley_terry([*"abc"], wins_by_prompt(scores))
    often = bradley_terry([*"abc"], wins_by_prompt(scores) * 5)
    assert [one.ci_low for one in often] == pytest.approx([one.ci_low for one in once], abs=1e-9)


def test_intervals_cover_the_strengths() -> None:
    """Gumbel scores win as Bradley-Terry has it: differences of them are logistic (Luce 1959)."""
    rng, truth = np.random.default_rng(4), np.array([0.6, 0.1, -0.7])
    covered = []
    for _ in range(300):
        found = bradley_terry([*"abc"], wins_by_prompt(rng.gumbel(size=(3, 150)) + truth[:, None]))
        covered += [one.ci_low <= s <= one.ci_high for one, s in zip(found, truth, strict=True)]  # type: ignore[operator]
    assert float(np.mean(covered)) == pytest.approx(0.95, abs=0.03)


def test_the_matrix_by_hand() -> None:
    """a scores 1, 2, 3; b 2, 2, 0: one loss, one tie, one win."""
    wins = wins_by_prompt([[1.0, 2.0, 3.0], [2.0, 2.0, 0.0]])
    assert wins[:, 0, 1].tolist() == [0.0, 0.5, 1.0]
    rates = win_rates(wins)
    assert (rates[0, 1], rates[1, 0]) == (0.5, 0.5)
    assert np.isnan(np.diag(rates)).all()


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(DataError, match="from b by wins to a"):
        bradley_terry(["a", "b"], _played([[0, 3], [0, 0]]))
    with pytest.raises(DataError, match="3 names"):
        bradley_terry(["a", "b", "c"], _played([[0, 3], [1, 0]]))
    with pytest.raises(NonFiniteError):
        wins_by_prompt([[math.nan], [0.0]])
    with pytest.raises(DataError, match="one row"):
        wins_by_prompt([1.0, 2.0])
