"""Paired tests against published examples and hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.paired import detectable, detectable_difference, holm, mcnemar, paired_test
from align.evaluation.statistics import mean_interval, standard_error


def test_mcnemar_of_one_against_seven() -> None:
    """Fagerland et al. 2013, table 1: n12 = 1, n21 = 7. Tail (1 + 8)/256: exact 18/256, mid-p 10/256."""
    found = mcnemar(1, 7)
    assert (found.exact, found.mid_p) == (18 / 256, 10 / 256)
    assert found == mcnemar(7, 1)


def test_mcnemar_where_nothing_speaks_for_either() -> None:
    """2 of 4: the tail is (1 + 4 + 6)/16, twice that is cut to 1; mid-p 2 (5 + 3)/16 = 1."""
    for found in (mcnemar(2, 2), mcnemar(0, 0)):
        assert (found.exact, found.mid_p) == (1.0, 1.0)


def test_mcnemar_of_more_units_than_floats_have_powers() -> None:
    """2^3000 is beyond float64; 1450 of 3000 lies 1.826 standard deviations off: p about 0.0679."""
    found = mcnemar(1450, 1550)
    z = 100 / math.sqrt(3000)
    assert found.mid_p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=5e-4)
    assert found.exact > found.mid_p
    with pytest.raises(ValueError, match="counts"):
        mcnemar(-1, 2)


@pytest.mark.parametrize("shift", [0.05, 0.15, 0.3, 0.6])
def test_the_paired_test_inverts_its_interval(shift: float) -> None:
    noise = np.random.default_rng(3).normal(size=60)
    found = paired_test("gain", noise + shift, np.zeros(60))
    interval = mean_interval(noise + shift)
    assert (found.difference.ci_low, found.difference.ci_high) == (interval.low, interval.high)
    assert found.difference.value == pytest.approx(float((noise + shift).mean()))
    excludes = not interval.low <= 0 <= interval.high
    assert (found.p < 0.05) == excludes
    # near the normal test, of which it is the bootstrap
    z = abs(found.difference.value) / standard_error(noise + shift)
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.03)


def test_the_paired_test_counts_prompts_not_replies() -> None:
    """Ten copies of each of 12 differences tell no more than the 12."""
    values = np.random.default_rng(1).normal(0.4, 1, size=12)
    once = paired_test("gain", values, np.zeros(12))
    often = paired_test("gain", values.repeat(10), np.zeros(120), clusters=np.arange(12).repeat(10).tolist())
    assert often.difference.n == 12
    assert often.p == once.p
    assert paired_test("gain", values.repeat(10), np.zeros(120)).p < once.p


def test_a_p_value_far_out_stands_correction_for_many() -> None:
    """Ten standard errors: no resample lies as far, and 100 such tests must still be told from chance."""
    values = np.random.default_rng(2).normal(1.0, 1.0, size=100)
    found = paired_test("gain", values, np.zeros(100))
    assert found.p < 1e-10
    assert holm([found.p] * 100)[0] < 1e-8


def test_equal_differences_leave_no_spread() -> None:
    assert paired_test("gain", [1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired_test("gain", [2.0, 3.0], [1.0, 2.0]).p < 0.001


def test_holm_by_hand() -> None:
    """0.01 x 4; 0.02 x 3; then 0.03 x 2 = 0.06, not below 0.06; 0.5."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []
    with pytest.raises(DataError, match="p-values"):
        holm([1.2])


def test_holm_keeps_the_level_over_all_tests() -> None:
    """Of 2,000 families of 10 true nulls 5 % reject any, and 40 % without the correction (1 - 0.95^10)."""
    families = np.random.default_rng(0).uniform(size=(2000, 10))
    corrected = np.mean([min(holm(list(family))) < 0.05 for family in families])
    assert corrected == pytest.approx(0.05, abs=0.015)
    assert float((families.min(1) < 0.05).mean()) == pytest.approx(1 - 0.95**10, abs=0.04)


def test_the_smallest_difference_that_n_could_show() -> None:
    """(1.959964 + 0.841621) / sqrt(100) of one standard deviation; four times n halves it."""
    assert detectable(1.0, 100) == pytest.approx(0.2801585, abs=1e-6)
    assert detectable(1.0, 400) == pytest.approx(detectable(1.0, 100) / 2)
    assert detectable_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == pytest.approx(detectable(1.0, 3))
    with pytest.raises(DataError, match="detectable"):
        detectable(1.0, 0)


def test_that_difference_is_shown_four_times_of_five() -> None:
    rng = np.random.default_rng(5)
    size = detectable(1.0, 100)
    shown = [abs(draw.mean()) / standard_error(draw) > 1.96 for draw in rng.normal(size, 1, (1500, 100))]
    assert float(np.mean(shown)) == pytest.approx(0.8, abs=0.03)
