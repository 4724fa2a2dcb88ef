"""The length-controlled win rate where its regression can be solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.length_control import length_controlled
from align.evaluation.statistics import wilson

LONGER = [1.0, 1.0, 1.0, 0.0]
SHORTER = [1.0, 0.0, 1.0, 0.0]


def _rate(outcomes: list[float], lengths: list[int], others: list[int], **more: object) -> float:
    return length_controlled("lc", outcomes, lengths, others, **more).value  # type: ignore[arg-type]


def test_two_lengths_by_hand() -> None:
    """3 of 4 won when longer by 10, 2 of 4 when shorter by 10: two cells, two coefficients, so theta is the
    mean of the cells' log odds, log(3)/2, and the win rate sqrt(3)/(1 + sqrt(3)), not 5/8."""
    found = length_controlled("lc", LONGER + SHORTER, [20] * 4 + [10] * 4, [10] * 4 + [20] * 4)
    assert found.value == pytest.approx(math.sqrt(3) / (1 + math.sqrt(3)), abs=1e-9)
    assert found.n == 8
    assert found.ci_low is not None
    assert found.ci_high is not None
    # theta's variance: a quarter of both cells' 1/(n p q), by the sandwich 8/7 of it
    error = math.sqrt((1 / (4 * 3 / 16) + 1 / (4 * 1 / 4)) / 4 * 8 / 7)
    logits = [math.log(bound / (1 - bound)) for bound in (found.ci_low, found.ci_high)]
    assert logits == pytest.approx(
        [math.log(3) / 2 - 1.959964 * error, math.log(3) / 2 + 1.959964 * error], abs=1e-5
    )


def test_a_win_by_length_alone_is_none() -> None:
    """The judge takes the longer reply three times of four, whoever wrote it; ours is longer more often."""
    outcomes = LONGER * 3 + [1 - one for one in LONGER]
    lengths = [30] * 12 + [10] * 4
    assert np.mean(outcomes) == 0.625
    assert _rate(outcomes, lengths, [20] * 16) == pytest.approx(0.5, abs=1e-9)


def test_sides_exchanged_is_one_minus() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(5, 60, 100).tolist(), rng.integers(5, 60, 100).tolist()
    outcomes = rng.choice([0.0, 0.5, 1.0], 100).tolist()
    mirrored = _rate([1 - one for one in outcomes], theirs, ours)
    assert _rate(outcomes, ours, theirs) == pytest.approx(1 - mirrored, abs=1e-9)


def test_equal_lengths_need_no_control() -> None:
    found = length_controlled("lc", LONGER, [7] * 4, [7] * 4)
    assert found.value == pytest.approx(0.75, abs=1e-12)
    wide = length_controlled("lc", LONGER * 100, [7] * 400, [7] * 400)
    assert (wide.ci_low, wide.ci_high) == pytest.approx(
        (wilson(300, 400).low, wilson(300, 400).high), abs=2e-3
    )


def test_prompts_are_the_units() -> None:
    keys = [0, 1, 2, 3, 4, 5, 6, 7]
    ours, theirs = [20] * 4 + [10] * 4, [10] * 4 + [20] * 4
    once = length_controlled("lc", LONGER + SHORTER, ours, theirs)
    twice = length_controlled("lc", (LONGER + SHORTER) * 2, ours * 2, theirs * 2, clusters=keys * 2)
    assert twice.n == 8
    assert (twice.value, twice.ci_low) == pytest.approx((once.value, once.ci_low), abs=1e-9)


def test_what_has_no_fit_is_refused() -> None:
    with pytest.raises(DataError, match="no fit"):
        _rate([1.0] * 4, [3, 4, 5, 6], [4, 4, 4, 4])
    with pytest.raises(DataError, match="no fit"):
        _rate([1.0, 1.0, 0.0, 0.0], [9, 8, 2, 1], [5, 5, 5, 5])
    with pytest.raises(DataError, match="never seen"):
        _rate([1.0, 0.0], [9, 9], [5, 5])
    with pytest.raises(DataError, match="between 0 and 1"):
        _rate([2.0, 0.0], [9, 8], [5, 5])
