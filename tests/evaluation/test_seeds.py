"""Student's t against its tables, and means over seeds by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.seeds import over_seeds, seed_effect, seed_gain, seed_spread, t_probability, t_quantile


@pytest.mark.parametrize(
    ("degrees", "table"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_t_has_the_quantiles_of_the_tables(degrees: int, table: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(table, abs=5.1e-4)
    assert t_quantile(0.025, degrees) == -t_quantile(0.975, degrees)


def test_t_where_it_has_a_closed_form() -> None:
    """One degree is Cauchy's, 1/2 + atan(t)/pi; two are 1/2 + t / (2 sqrt(2 + t^2))."""
    for t in (-3.0, -0.5, 0.0, 0.1, 1.0, 25.0):
        assert t_probability(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-13)
        assert t_probability(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-13)
    assert t_probability(1.96, 1e7) == pytest.approx(0.9750021, abs=1e-6)
    assert t_probability(2.0, 3.5) == pytest.approx(
        (t_probability(2.0, 3.4) + t_probability(2.0, 3.6)) / 2, abs=1e-4
    )
    with pytest.raises(ValueError, match="degrees"):
        t_probability(0.0, 0)
    with pytest.raises(ValueError, match="probability"):
        t_quantile(1.0, 3)


def test_the_mean_of_three_seeds() -> None:
    """1, 2, 3: mean 2, s = 1, t(2) = 4.302653: 2 -/+ 4.302653/sqrt(3)."""
    found = over_seeds("dpo/kl", [1.0, 2.0, 3.0])
    assert (found.metric, found.value, found.n, found.method) == ("dpo/kl", 2.0, 3, "t over seeds")
    assert found.ci_low is not None
    assert 2.0 - found.ci_low == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert seed_spread([1.0, 2.0, 3.0]) == 1.0


def test_one_seed_has_no_spread() -> None:
    assert over_seeds("dpo/kl", [1.5]).ci_low is None
    with pytest.raises(DataError, match="two runs"):
        seed_spread([1.5])


def test_an_effect_in_spreads_by_hand() -> None:
    """1, 2, 3 against 5, 6, 7: difference 4, error sqrt(2/3), 4 degrees, 4 spreads; t = 4.899."""
    found = seed_effect("gain", [5.0, 6.0, 7.0], [1.0, 2.0, 3.0])
    assert (found.difference.value, found.difference.n, found.in_spreads) == (4.0, 6, 4.0)
    assert found.difference.ci_low == pytest.approx(4 - 2.776445 * math.sqrt(2 / 3), abs=1e-5)
    # four degrees have a closed form: 1/2 + (3/8) u (1 - u^2/12 ...) with u = t / sqrt(1 + t^2/4)
    t = 4 / math.sqrt(2 / 3)
    u = t / math.sqrt(1 + t * t / 4)
    assert found.p == pytest.approx(2 * (0.5 - 3 / 8 * u * (1 - u * u / 12)), abs=1e-12)


def test_a_gain_over_one_reference_by_hand() -> None:
    """1, 2, 3: t = 2 sqrt(3) on two degrees, where p is 1 - t / sqrt(2 + t^2)."""
    found = seed_gain("gain", [1.0, 2.0, 3.0])
    assert (found.difference.value, found.in_spreads) == (2.0, 2.0)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)
    assert seed_gain("gain", [1.0, 1.0]).p == 0.0


def test_seeds_that_agree_to_the_last_bit() -> None:
    same, other = (seed_effect("gain", [1.0, 1.0], [value, value]) for value in (1.0, 2.0))
    assert (same.p, same.in_spreads) == (1.0, None)
    assert (other.p, other.difference.value) == (0.0, -1.0)


def test_intervals_over_seeds_cover() -> None:
    draws = np.random.default_rng(2).normal(1.0, 3.0, size=(1000, 3))
    found = [over_seeds("m", draw) for draw in draws]
    covered = np.mean([one.ci_low <= 1.0 <= one.ci_high for one in found if one.ci_low and one.ci_high])
    assert covered == pytest.approx(0.95, abs=0.02)
