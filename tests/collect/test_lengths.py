"""Lengths beside labels: numbers worked out by hand, and what a control has to leave behind."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

from align.collect._lengths import LengthControl, kept_places, length_report
from align.config import build
from align.errors import ConfigError
from align.evaluation.statistics import wilson
from align.types import Message, PreferencePair


def pair(chosen: int, rejected: int, prompt: str = "") -> PreferencePair:
    """A pair of replies of these lengths, to a prompt of its own where none is named."""
    question = prompt or f"{chosen} {rejected}?"
    return PreferencePair("", (Message("user", question),), "c" * chosen, "r" * rejected)


def test_the_report_by_hand():
    """Of four pairs the chosen reply is longer in two and as long in one."""
    pairs = [pair(20, 10), pair(30, 10), pair(5, 10), pair(7, 7)]
    found = {result.metric: result for result in length_report(pairs, "l")}
    assert found["l/chosen_longer"].value == 0.5
    interval = wilson(2, 4)
    assert found["l/chosen_longer"].ci_low == pytest.approx(interval.low)
    assert found["l/chosen_longer"].ci_high == pytest.approx(interval.high)
    assert found["l/longer_wins"].value == (2 + 0.5) / 4
    assert found["l/chosen_characters"].value == (20 + 30 + 5 + 7) / 4
    assert found["l/rejected_characters"].value == (10 + 10 + 10 + 7) / 4
    # log 2 + log 3 + log(1/2) + log 1
    assert found["l/gap"].value == pytest.approx(math.log(3) / 4)
    assert length_report([]) == []


def test_pairs_of_one_prompt_count_as_one():
    pairs = [pair(20, 10, "a")] * 5 + [pair(10, 20, "b")] * 5
    assert {result.n for result in length_report(pairs)} == {2}


def test_a_cap_keeps_small_gaps_on_either_side():
    pairs = [pair(120, 100), pair(121, 100), pair(100, 120), pair(100, 125), pair(3, 3)]
    assert kept_places(pairs, LengthControl("cap", most=1.2)) == [0, 2, 4]
    assert kept_places(pairs, LengthControl("cap", most=1.0)) == [4]
    assert kept_places(pairs, LengthControl()) == [0, 1, 2, 3, 4]


def test_matching_by_hand():
    """Longer by 2.0 and 1.5 times, shorter by 2.1 and 4 times: the first has a partner, the others none."""
    pairs = [pair(200, 100), pair(150, 100), pair(100, 210), pair(100, 400), pair(9, 9)]
    assert kept_places(pairs, LengthControl("match", like=1.1)) == [0, 2, 4]
    # within a factor of two all find one: 1.5 with 2.1, 2.0 with 4
    assert kept_places(pairs, LengthControl("match", like=2.0)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(20))
def test_matching_keeps_the_most_that_any_matching_could(seed: int):
    """Against all ways to couple a few pairs; the rest is balanced to the pair."""
    rng = Random(seed)
    pairs = [pair(rng.randint(50, 100), rng.randint(50, 100)) for _ in range(9)]
    like = 1.15
    gaps = [math.log(len(one.chosen) / len(one.rejected)) for one in pairs]
    longer = [gap for gap in gaps if gap > 0]
    shorter = [-gap for gap in gaps if gap < 0]
    few, many = sorted((longer, shorter), key=len)
    most = max(
        sum(abs(one - other) <= math.log(like) for one, other in zip(few, order, strict=False))
        for order in itertools.permutations(many, len(few))
    )
    kept = kept_places(pairs, LengthControl("match", like=like))
    assert len(kept) == 2 * most + gaps.count(0.0)
    signs = [(gaps[place] > 0) - (gaps[place] < 0) for place in kept]
    assert sum(signs) == 0
    assert abs(sum(gaps[place] for place in kept)) <= most * math.log(like) + 1e-12


def test_settings_that_match_nothing_are_refused():
    with pytest.raises(ConfigError, match="like=1 matches equal gaps only"):
        build(LengthControl, {"how": "match", "like": 1.0})
    with pytest.raises(ConfigError, match="most: takes a number at least 1"):
        build(LengthControl, {"most": 0.5})
