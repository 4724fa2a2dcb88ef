"""Each rule by hand, what switches it on, and bounds on any text."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align import registry
from align.compose import run_from
from align.config import build
from align.errors import ConfigError
from align.types import Message
from reward_models.rules import Rules

QUESTION = (Message("user", "Where is the old red house by the sea?"),)
EVERYTHING: dict[str, Any] = {
    "length": {"least": 3, "most": 5, "slack": 2, "weight": 0.5},
    "repetition": {"ngram": 2},
    "copying": {"ngram": 2, "weight": -2},
    "ending": {},
    "words": {"courtesy": {"words": ["please", "Thanks"], "most": 2, "weight": 3}},
    "patterns": {"digit": {"regex": r"\d", "most": 3, "weight": -0.25}},
}


def value(rule: dict[str, Any], reply: str) -> float:
    """The reward of one rule alone."""
    (score,) = build(Rules, rule).prepare().score([QUESTION], [reply])
    return score


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, -0.5), (1, 0), (2, 0.5), (3, 1), (5, 1), (6, 0.5), (8, -0.5), (9, -1), (99, -1)],
)
def test_length_falls_outside_its_range(count: int, expected: float):
    assert value({"length": {"least": 3, "most": 5, "slack": 2}}, "so " * count) == expected


def test_a_length_may_be_a_target_or_have_one_end_and_be_counted_in_characters():
    assert value({"length": {"least": 4, "most": 4, "slack": 4, "unit": "characters"}}, " ab cd ") == 0.75
    assert value({"length": {"least": 4, "unit": "characters"}}, "x" * 999) == 1
    assert value({"length": {"most": 4}}, "") == 1


@pytest.mark.parametrize(
    ("reply", "share"),
    [("a b a b a", 2 / 4), ("A b. a B!", 1 / 3), ("a b c", 0), ("a", 0), ("", 0), ("a a a a a", 3 / 4)],
)
def test_repetition_is_the_share_of_bigrams_said_before(reply: str, share: float):
    assert value({"repetition": {"ngram": 2}}, reply) == pytest.approx(-share)


@pytest.mark.parametrize(
    ("reply", "share"),
    [("The old red house", 1), ("An old red hat", 1 / 3), ("old house", 0), ("the", 0), ("", 0)],
)
def test_copying_is_the_share_of_bigrams_of_the_question(reply: str, share: float):
    assert value({"copying": {"ngram": 2, "weight": 1}}, reply) == pytest.approx(share)


@pytest.mark.parametrize(
    ("reply", "ends"),
    [
        ("Yes.", 1),
        ('He said "yes!" ', 1),
        ("(yes?)\n", 1),
        ("是。", 1),
        ("Yes", 0),
        ("Yes,", 0),
        ("", 0),
        ('"', 0),
    ],
)
def test_an_end_is_that_of_a_sentence(reply: str, ends: float):
    assert value({"ending": {}}, reply) == ends


def test_words_are_whole_and_count_up_to_most():
    rule = {"words": {"kind": {"words": ["please", "Thanks"], "most": 2}}}
    for reply, count in (("PLEASE, thanks!", 2), ("thank pleased", 0), ("please " * 5, 2), ("thanks", 1)):
        assert value(rule, reply) == count


def test_patterns_are_counted_or_match_the_whole():
    steps = {"patterns": {"steps": {"regex": r"(?m)^\d\.", "most": 3}}}
    assert [value(steps, "1. a\n2. b\nno 3."), value(steps, "1.\n" * 9), value(steps, "a")] == [2, 3, 0]
    json = {"patterns": {"json": {"regex": r"\{.*\}", "whole": True, "most": 5}}}
    assert [value(json, " {1} \n"), value(json, "so {1}")] == [1, 0]


def test_the_sum_by_hand_and_its_parts():
    """Six words: length 0.5; bigrams 5, one said before, none copied; ends; two courtesies; one digit."""
    rules = build(Rules, EVERYTHING)
    reply = "Thanks 7 thanks 7 please now."
    found = rules.score_in_parts([QUESTION], [reply])
    assert found.parts == {
        "length": [0.5],
        "repetition": [pytest.approx(1 / 5)],
        "copying": [0.0],
        "ending": [1.0],
        "words/courtesy": [2.0],
        "patterns/digit": [2.0],
    }
    expected = 0.5 * 0.5 - 1 / 5 - 2 * 0 + 1 + 3 * 2 - 0.25 * 2
    assert found.scores == [pytest.approx(expected)] == rules.score([QUESTION], [reply])
    # lows: -0.5, -1, -2, 0, 0, -0.75; highs: 0.5, 0, 0, 1, 6, 0
    assert rules.score_range == (-4.25, 7.5)


@given(
    st.lists(
        st.text() | st.lists(st.sampled_from(["the", "old", "red", "7.", "thanks"])).map(" ".join), max_size=4
    )
)
def test_any_text_scores_within_the_range_whatever_the_batch(replies: list[str]):
    rules = build(Rules, EVERYTHING)
    scores = rules.score([QUESTION] * len(replies), replies)
    assert scores == [rules.score([QUESTION], [reply])[0] for reply in replies]
    low, high = rules.score_range
    assert all(math.isfinite(score) and low - 1e-9 <= score <= high + 1e-9 for score in scores)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no rule is switched on"),
        ({"length": {}}, "length: every length is fine"),
        ({"length": {"least": 5, "most": 4}}, "length: most=4 is below least=5"),
        ({"length": {"least": 5, "slack": 0}}, "length.slack: takes a number above 0"),
        ({"length": {"most": 5, "unit": "tokens"}}, "length.unit: takes one of words, characters"),
        ({"ending": {"marks": " "}}, "ending: marks is empty"),
        ({"words": {"a": {"words": []}}}, "words.a: words is empty"),
        (
            {"words": {"a": {"words": ["a b"]}}},
            "words.a: words takes single words of letters and digits, got 'a b'",
        ),
        ({"patterns": {"a": {"regex": "(x"}}}, r"patterns.a: regex='\(x' is no regular expression"),
        ({"patterns": {"a": {"weight": 1}}}, "patterns.a.regex: is missing"),
        ({"repetition": {"ngrams": 2}}, "repetition.ngrams: there is no such option. Did you mean 'ngram'"),
    ],
)
def test_mistakes_are_told(values: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        build(Rules, values)


def test_it_is_typed_on_the_command_line():
    words = ["stage=evaluate", "model.path=a", "reference.path=b", "reward=rules"]
    own = ["reward.length.most=60", "reward.words.kind.words=[please,thanks]", "reward.ending={}"]
    own += [r"reward.patterns.steps.regex='(?m)^1\.'"]
    stage: Any = run_from([*words, *own], []).stage
    assert list(stage.reward.rules()) == ["length", "ending", "words/kind", "patterns/steps"]
    assert stage.reward.patterns["steps"].regex == r"(?m)^1\."
    assert registry.component("reward", "rules") is Rules
