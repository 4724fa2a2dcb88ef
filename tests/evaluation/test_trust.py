"""What margins claim: by hand, and where it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.calibration import of_margins
from align.evaluation.logistic import NoFit, logistic_fit
from align.evaluation.trust import brier_score, error_by_chance, overconfidence, slope

THREE = math.log(3)
"""A margin that claims 3/4."""


def test_by_hand() -> None:
    """Right on three of five pairs that claim 3/4: it claims 0.15 too much; squares 1/16 and 9/16."""
    margins = [THREE, THREE, THREE, -THREE, -THREE]
    assert overconfidence("o", margins).value == pytest.approx(0.75 - 3 / 5)
    assert brier_score("b", margins).value == pytest.approx((3 / 16 + 2 * 9 / 16) / 5)
    # 3/5 are right where sigmoid(slope log 3) = 3/5, so that slope log 3 = log(3/2)
    assert slope("s", margins).value == pytest.approx(math.log(1.5) / THREE)


def test_slope_is_the_inverse_of_what_margins_were_multiplied_by() -> None:
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.normal(0, 1.5, 4000))
    right = rng.random(4000) < 1 / (1 + np.exp(-sizes))
    margins = np.where(right, sizes, -sizes)
    found = slope("s", margins)
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.ci_low < 1 < found.ci_high
    doubled = slope("s", 2 * margins)
    assert doubled.value == pytest.approx(found.value / 2)
    assert doubled.ci_low == pytest.approx(found.ci_low / 2)


def test_a_binary_fit_has_the_error_of_a_proportion() -> None:
    """One column of ones: theta = logit(p), and the sandwich is the delta method's 1 / (n p (1 - p)), with
    Bessel's n / (n - 1)."""
    outcomes = np.array([1.0] * 30 + [0.0] * 70)
    fit = logistic_fit("m", np.ones((100, 1)), outcomes, list(range(100)))
    assert fit.coefficients_C[0] == pytest.approx(math.log(0.3 / 0.7))
    assert fit.covariance_CC[0, 0] == pytest.approx(100 / 99 / (100 * 0.3 * 0.7))


def test_pairs_of_one_prompt_are_one_unit() -> None:
    """Each pair twice: the same numbers, as few units, the same intervals but for the grain of resampling."""
    rng = np.random.default_rng(1)
    margins = rng.normal(0.5, 1.5, 200)
    keys = [*range(200), *range(200)]
    twice = np.concatenate([margins, margins])
    for measured in (slope, overconfidence, brier_score):
        once, again = measured("m", margins), measured("m", twice, keys)
        assert (again.value, again.n) == (pytest.approx(once.value), once.n)
        assert again.ci_high == pytest.approx(once.ci_high, rel=1e-6)
    assert error_by_chance("e", twice, keys) == pytest.approx(error_by_chance("e", margins), rel=0.15)
    # taken for 400 pairs, chance would do less
    assert error_by_chance("e", twice) == pytest.approx(error_by_chance("e", margins) / math.sqrt(2))


def test_chance_alone_makes_an_error_that_falls_with_the_root_of_n() -> None:
    """One bin of claims of 3/4: the sum's absolute normal deviate is below 1.96 in 95 %."""
    margins = [THREE] * 300 + [-THREE] * 100
    expected = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert error_by_chance("e", margins) == pytest.approx(expected, rel=0.05)
    assert of_margins("e", margins).ece == pytest.approx(0.0)


def test_what_has_no_slope_is_told() -> None:
    with pytest.raises(NoFit, match="no fit exists"):
        slope("s", [1.0, 2.0, 0.5])
    with pytest.raises(DataError, match="scores every pair alike"):
        overconfidence("o", [0.0, 0.0])
    with pytest.raises(DataError, match="keys"):
        slope("s", [1.0, -1.0], ["a"])
