"""A ratio of totals, against the mean where sizes are alike and against the truth where they are not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.ratios import ratio
from align.evaluation.statistics import mean

VALUES = [0.5, 2.0, 1.25, 3.0, 0.75, 1.0]


def test_with_equal_sizes_it_is_the_mean() -> None:
    keys = [0, 0, 1, 1, 2, 3]
    one, other = ratio("m", VALUES, [1] * 6, keys), mean("m", VALUES, keys)
    assert (one.value, one.n, one.method) == (other.value, other.n, other.method)
    assert (one.ci_low, one.ci_high) == pytest.approx((other.ci_low, other.ci_high))


def test_long_texts_count_more_and_no_order_shows() -> None:
    sizes = [10.0, 1, 4, 2, 7, 3]
    found = ratio("m", VALUES, sizes)
    assert found.value == pytest.approx(sum(VALUES) / sum(sizes))
    order = list(range(6))
    random.Random(1).shuffle(order)
    assert ratio("m", [VALUES[i] for i in order], [sizes[i] for i in order]) == found


def test_a_unit_alone_has_no_interval() -> None:
    assert ratio("m", [1.0, 3.0], [1, 1], ["a", "a"]).ci_low is None


@pytest.mark.parametrize(
    ("sizes", "clusters", "words"),
    [([1], None, "2 amounts, but 1 sizes"), ([1, 0], None, "above 0"), ([1, 1], [0], "1 keys of clusters")],
)
def test_what_does_not_fit_is_refused(sizes: list[float], clusters: list[int] | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ratio("m", [1.0, 2.0], sizes, clusters)


@pytest.mark.medium
def test_coverage_where_long_texts_are_harder() -> None:
    """1,000 experiments with 60 texts: amounts grow faster than sizes; the truth is the ratio of means."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = rng.integers(5, 60, count).astype(float)
        return sizes * (1 + sizes / 60) + rng.normal(0, 5, count), sizes

    amounts, sizes = draw(2_000_000)
    truth = amounts.sum() / sizes.sum()
    held = 0
    for _ in range(1000):
        found = ratio("m", *draw(60))
        assert found.ci_low is not None
        assert found.ci_high is not None
        held += found.ci_low <= truth <= found.ci_high
    assert 930 <= held <= 970
