"""A reward model on pairs, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError, NonFiniteError
from align.evaluation.accuracy import accuracy, bayes_accuracy
from align.evaluation.statistics import wilson


def test_accuracy_of_four_pairs() -> None:
    """Right, wrong, tie, right: (2 + 1/2)/4; one tie in four; margins 1, -2, 0, 3 of mean 1/2."""
    right, ties, margin = accuracy([2.0, 0.0, 1.0, 3.0], [1.0, 2.0, 1.0, 0.0])
    assert [one.metric for one in (right, ties, margin)] == [
        "reward/accuracy",
        "reward/ties",
        "reward/margin",
    ]
    assert (right.value, ties.value, margin.value) == (0.625, 0.25, 0.5)
    assert (right.n, right.method, ties.method) == (4, "tango", "wilson")


def test_accuracy_without_ties_has_wilsons_interval() -> None:
    chosen = np.array([1.0] * 124 + [-1.0] * 76)
    right, ties, _ = accuracy(chosen, np.zeros(200), label="proxy")
    expected = wilson(124, 200)
    assert (right.metric, right.value, right.method) == ("proxy/accuracy", 0.62, "wilson")
    assert (right.ci_low, right.ci_high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert ties.value == 0.0


def test_a_model_that_scores_all_alike_is_at_chance_and_says_so() -> None:
    right, ties, _ = accuracy([0.0] * 50, [0.0] * 50)
    assert (right.value, ties.value) == (0.5, 1.0)


def test_accuracy_over_recurring_prompts_counts_prompts() -> None:
    right, *_ = accuracy([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], clusters=["a", "a", "b", "b"])
    assert (right.value, right.n, right.method) == (0.5, 2, "wilson, by cluster")


def test_scores_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(NonFiniteError, match="reward/accuracy"):
        accuracy([math.nan, 1.0], [0.0, 0.0])
    with pytest.raises(DataError, match="2 of ours and 1 of theirs"):
        accuracy([1.0, 2.0], [0.0])


def test_bayes_accuracy_takes_the_likelier_side() -> None:
    """max(p, 1 - p) of 0.9, 0.2, 0.5 is 0.9, 0.8, 0.5: mean 2.2/3."""
    limit = bayes_accuracy([0.9, 0.2, 0.5])
    assert limit.metric == "reward/bayes_accuracy"
    assert limit.value == pytest.approx(2.2 / 3, rel=1e-12)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        bayes_accuracy([0.5, 1.2])


def test_the_bayes_rule_reaches_the_bayes_limit() -> None:
    """2,000 pairs labelled by known probabilities: the rule p > 1/2 is right as often as the limit says."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.8, 0.8, size=2_000)
    first_preferred = rng.random(len(p)) < p
    sign = np.where(first_preferred, 1.0, -1.0)
    right, *_ = accuracy(sign * (p - 0.5), np.zeros(len(p)))
    assert right.value == pytest.approx(bayes_accuracy(p).value, abs=4 * 0.5 / math.sqrt(len(p)))
