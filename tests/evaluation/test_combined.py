"""Weighted means of results, against the case that has a closed form and against simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.combined import weighted
from align.evaluation.statistics import proportion
from align.types import Result


def test_bounds_of_symmetric_parts_are_those_of_a_sum_of_normals() -> None:
    """Half-widths 3 and 4 at weights a half each: 2.5, by Pythagoras."""
    parts = [Result("a", 1.0, 5, -2.0, 4.0, "x"), Result("b", 3.0, 7, -1.0, 7.0, "x")]
    assert weighted("m", parts, [1, 1]) == Result("m", 2.0, 12, -0.5, 4.5, "mover")


def test_a_part_alone_keeps_its_interval() -> None:
    part = proportion("a", [1, 1, 0, 1])
    found = weighted("m", [part], [7])
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(
        (part.value, part.ci_low, part.ci_high)
    )


def test_without_an_interval_there_is_none() -> None:
    found = weighted("m", [Result("a", 1.0, 5, None, None, "exact")], [1])
    assert (found.ci_low, found.method) == (None, "exact")


@pytest.mark.parametrize("weights", [[], [1, 2], [-1], [0]])
def test_weights_fit_the_parts(weights: list[float]) -> None:
    with pytest.raises(DataError):
        weighted("m", [Result("a", 1.0, 5, 0.0, 2.0, "x")], weights)


@pytest.mark.medium
def test_coverage_of_three_subsets() -> None:
    """1,000 experiments on subsets of 30, 80 and 200 with rates 0.95, 0.7, 0.5: 95 % of intervals hold."""
    rng = np.random.default_rng(0)
    sizes, rates, weights = (30, 80, 200), (0.95, 0.7, 0.5), (2.0, 1.0, 1.0)
    truth = np.average(rates, weights=weights)
    held = 0
    for _ in range(1000):
        parts = [proportion("x", rng.random(n) < p) for n, p in zip(sizes, rates, strict=True)]
        found = weighted("m", parts, weights)
        assert found.ci_low is not None
        assert found.ci_high is not None
        held += found.ci_low <= truth <= found.ci_high
    assert 930 <= held <= 970
