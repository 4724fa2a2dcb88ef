"""Best of n against every way to draw the replies, and against its closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from align.errors import DataError, NonFiniteError
from align.evaluation.best_of_n import best_of_n_kl, best_of_n_win_rate, chances, expected_best, pool_kl

POOLS = {"distinct": [0.3, -1.0, 2.0, 0.7, 5.0, -4.0], "ties": [1.0, 0.0, 1.0, 1.0, -2.0, 0.0]}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS.keys())
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_chances_by_every_subset(pool: list[float], n: int) -> None:
    """A tie at the top is broken by a coin."""
    expected = np.zeros(len(pool))
    subsets = list(itertools.combinations(range(len(pool)), n))
    for drawn in subsets:
        best = [place for place in drawn if pool[place] == max(pool[one] for one in drawn)]
        expected[best] += 1 / len(best) / len(subsets)
    assert chances(pool, n) == pytest.approx(expected, abs=1e-15)


def test_the_mean_and_the_maximum_are_its_ends() -> None:
    pool, gold = POOLS["distinct"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert expected_best(pool, 1) == pytest.approx(np.mean(pool), rel=1e-12)
    assert expected_best(pool, 6) == 5.0
    assert expected_best(pool, 6, gold) == 5.0  # the gold of the fifth, whose proxy is the highest
    assert expected_best(pool, 1, gold) == pytest.approx(3.5, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4, 16, 64, 119])
def test_the_kl_of_a_large_pool_is_the_closed_form(n: int) -> None:
    """log n - (n - 1)/n to 1e-4 while n is under 3 % of the pool."""
    pool = np.random.default_rng(0).permutation(4000)
    assert pool_kl(pool, n) == pytest.approx(best_of_n_kl(n), abs=1e-4)


@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_the_closed_form_is_an_upper_bound_with_ties(n: int) -> None:
    pool = np.random.default_rng(0).permutation(4000)
    coarse = pool_kl(pool // 400, n)
    assert 0 < coarse < best_of_n_kl(n) - 1e-3
    assert pool_kl(np.zeros(4000), n) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_win_rate_by_every_order(n: int) -> None:
    """n + 1 replies in every order: how often the best of the first n is above the last."""
    orders = list(itertools.permutations(range(n + 1)))
    wins = sum(max(order[:n]) > order[n] for order in orders)
    assert best_of_n_win_rate(n) == pytest.approx(wins / len(orders), rel=1e-12)


def test_best_of_one_is_the_base() -> None:
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_win_rate(1) == 0.5
    assert math.isclose(best_of_n_kl(4), math.log(4) - 0.75)


def test_wrong_pools_are_refused() -> None:
    with pytest.raises(DataError, match="best of 3 takes 3 replies a prompt at least, the pool has 2"):
        chances([1.0, 2.0], 3)
    with pytest.raises(DataError, match="n=0"):
        best_of_n_kl(0)
    with pytest.raises(DataError, match="2 scores, but 3 values"):
        expected_best([1.0, 2.0], 1, [1.0, 2.0, 3.0])
    with pytest.raises(NonFiniteError, match="nan"):
        expected_best([1.0, float("nan")], 1)
