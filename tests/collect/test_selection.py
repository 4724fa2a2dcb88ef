"""Which of many: hand-computed choices, and the bound that farthest-first keeps."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from align.collect._selection import drawn, farthest_first, radius, smallest, text_vectors


def test_the_smallest_come_first_and_of_equals_the_first():
    assert smallest([3.0, 1.0, 2.0, 1.0], 3) == [1, 3, 2]
    assert smallest([1.0], 5) == [0]


def test_every_set_is_drawn_as_often():
    """Two of four: each of the six sets in a sixth of 600 draws, within four standard deviations."""
    counts = Counter(tuple(sorted(drawn(4, 2, seed))) for seed in range(600))
    assert len(counts) == 6
    assert all(abs(count - 100) < 4 * (600 * 5 / 36) ** 0.5 for count in counts.values())
    assert drawn(3, 9, 0) == drawn(3, 9, 0)
    assert sorted(drawn(3, 9, 0)) == [0, 1, 2]


def test_farthest_first_by_hand():
    """On a line at 0, 1, 2, 6 and 10, from 0: 10 is farthest, then 6 (4 from 10), then 2 (2 from 0)."""
    line = np.array([[0.0], [1.0], [2.0], [6.0], [10.0]])
    assert farthest_first(line, 4, 0) == [0, 4, 3, 2]
    assert radius(line, [0, 4, 3]) == 2
    assert radius(line, [0, 4]) == 4
    assert sorted(farthest_first(line, 9, 1)) == [0, 1, 2, 3, 4]


def test_equal_rows_are_each_taken_once():
    assert farthest_first(np.zeros((3, 2)), 3, 2) == [2, 0, 1]


@pytest.mark.parametrize("seed", range(10))
def test_no_choice_has_less_than_half_its_radius(seed: int):
    """Against every choice of three of nine points (Gonzalez 1985)."""
    points = np.random.default_rng(seed).normal(size=(9, 2))
    best = min(radius(points, one) for one in itertools.combinations(range(9), 3))
    mine = radius(points, farthest_first(points, 3, 0))
    assert best - 1e-12 <= mine <= 2 * best + 1e-12


def test_vectors_by_hand():
    """'a' is in both texts and so weighs nothing; 'b' twice weighs log 3 log(3/2), 'c' log 2 log(3/2)."""
    vectors = text_vectors(["a B b c", "a"])
    assert np.count_nonzero(vectors[1]) == 0
    found = sorted(abs(vectors[0][vectors[0] != 0]))
    norm = math.hypot(math.log(3), math.log(2))
    assert found == pytest.approx([math.log(2) / norm, math.log(3) / norm])
    assert text_vectors(["c b b A", "a"])[0] == pytest.approx(vectors[0])


def test_texts_that_share_rare_words_are_near():
    near, other, far = text_vectors(["wash the goat", "wash a goat", "knit the scarf"])
    assert near @ other > near @ far
