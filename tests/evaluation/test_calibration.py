"""Reliability, ECE and Brier's parts by hand; accuracy in bins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.calibration import accuracy_by, calibration, of_margins
from align.evaluation.statistics import wilson


def test_four_cases_by_hand() -> None:
    """Bins [0, .5) and [.5, 1]: 0.2 and 0.4 with outcomes 0, 1; 0.7 and 0.9 with 1, 1."""
    found = calibration("rm", [0.2, 0.4, 0.7, 0.9], [0, 1, 1, 1], bins=2)
    low, high = found.curve
    assert (low.low, low.high, low.mean, low.share.value) == pytest.approx((0.0, 0.5, 0.3, 0.5))
    assert (high.mean, high.share.value, high.share.n) == pytest.approx((0.8, 1.0, 2))
    assert found.ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.09 + 0.01) / 4)
    assert found.reliability == pytest.approx(0.04)
    # shares 0.5 and 1 about 3/4
    assert found.resolution == pytest.approx(0.0625)
    assert found.uncertainty == pytest.approx(3 / 16)
    # within the lower bin: squares 2 x 0.01, products -0.1 x -0.5 + 0.1 x 0.5 = 0.1; the upper: 0.02, none
    assert found.within == pytest.approx((0.02 - 2 * 0.1 + 0.02) / 4)


def test_briers_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=500)
    found = calibration("rm", p, rng.uniform(size=500) < p**2)
    parts = found.reliability - found.resolution + found.uncertainty + found.within
    assert found.brier == pytest.approx(parts, abs=1e-12)
    assert found.ece > 0.1


def test_a_calibrated_model_has_little_error_and_a_louder_one_more() -> None:
    rng = np.random.default_rng(1)
    size = rng.normal(0, 2, 20_000)
    right = rng.uniform(size=20_000) < 1 / (1 + np.exp(-np.abs(size)))
    margins = np.where(right, np.abs(size), -np.abs(size))
    assert of_margins("rm", margins).ece < 0.02
    assert of_margins("rm", 3 * margins).ece > 0.08


def test_margins_by_hand() -> None:
    """log 3 is a confidence of 3/4; right twice of three; the pair scored alike is left out."""
    third = math.log(3)
    found = of_margins("rm", [third, third, -third, 0.0])
    assert len(found.curve) == 1
    assert (found.curve[0].mean, found.curve[0].share.value, found.curve[0].share.n) == pytest.approx(
        (0.75, 2 / 3, 3)
    )
    assert found.ece == pytest.approx(0.75 - 2 / 3)
    with pytest.raises(DataError, match="alike"):
        of_margins("rm", [0.0, 0.0])


def test_accuracy_by_margin() -> None:
    """Four pairs in two bins of two: wrong and right below, right and right above."""
    low, high = accuracy_by("rm/by_margin", [-1.0, 2.0, 1.0, 3.0], [0.1, 0.2, 0.7, 0.9], bins=2)
    assert (low.share.value, high.share.value) == (0.5, 1.0)
    assert (low.low, high.high) == (0.1, 0.9)
    assert (high.share.ci_low, high.share.ci_high) == pytest.approx((wilson(2, 2).low, wilson(2, 2).high))


def test_pairs_alike_share_a_bin_and_prompts_are_units() -> None:
    (only,) = accuracy_by("rm", [1.0, -1.0, 0.0, 1.0], [2.0] * 4, clusters=[*"aabb"])
    assert (only.share.value, only.share.n, only.low, only.high) == (0.625, 2, 2.0, 2.0)
    filled = accuracy_by("rm", np.ones(100), np.arange(100))
    assert [one.share.n for one in filled] == pytest.approx([20] * 5, abs=1)


def test_few_values_have_a_bin_each() -> None:
    """Votes of 2 of 3 and 3 of 3, mostly the latter: quantiles would have put them together."""
    weak, sure = accuracy_by("rm", [-1.0, 1.0, 1.0, 1.0, 1.0, -1.0], [2 / 3, 1.0, 1.0, 1.0, 1.0, 2 / 3])
    assert (weak.share.value, sure.share.value) == (0.0, 1.0)
    assert (weak.mean, sure.mean) == pytest.approx((2 / 3, 1.0))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(DataError, match="probabilities"):
        calibration("rm", [1.2], [1])
    with pytest.raises(DataError, match="2 margins"):
        accuracy_by("rm", [1.0, 2.0], [1.0])
