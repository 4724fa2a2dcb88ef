"""The known gold: each feature by hand, what trades off, and bounds on any text.

The question used throughout has the content words wash, goat and dark (the rest are common words).
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align import registry
from align.config import build
from align.errors import ConfigError
from align.types import Message
from reward_models.gold import (
    COMMON,
    COURTESIES,
    REASONS,
    RUDE,
    Gold,
    breakdown,
    features,
    gold_reward,
    words,
)

QUESTION = "How do I wash the goat in the dark? I have never done it before."
GOOD = (
    "Happy to help. You can wash the goat in the dark with a soft cloth. This works because it saves time. "
    "Thanks and luck."
)
"""24 words, two courtesies (happy, thanks), one reason, all three asked words, nothing repeated."""


def test_words_are_lower_case_runs_of_letters_and_digits():
    assert words("Don't STOP_here: 2 Cafés, ok?") == ["don't", "stop", "here", "2", "cafés", "ok"]
    assert words("... --- !") == []


def test_a_good_reply_by_hand():
    # answer 3/3; manners 2 * 2 / 4 = 1; reason 1 * 1 = 1; length 1 - (4/10)^2 = 0.84; ending 1.
    assert len(words(GOOD)) == 24
    seen = features(QUESTION, GOOD)
    assert (seen.answer, seen.manners, seen.reason, seen.repetition, seen.ending) == (1, 1, 1, 0, 1)
    assert seen.length == pytest.approx(0.84)
    assert gold_reward(QUESTION, GOOD, Gold()) == pytest.approx(2 + 1.5 + 1 + 0.84 - 0 + 0.5)


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("Wash it.", 1 / 3),
        ("The GOAT, wash", 2 / 3),
        ("dark goat wash wash", 1),
        ("goats washing darkness", 0),
        ("How do I have before?", 0),
    ],
)
def test_answer_is_the_share_of_asked_content_words(reply: str, share: float):
    assert features(QUESTION, reply).answer == pytest.approx(share)


def test_a_question_without_content_words_gives_nothing_for_the_answer():
    assert features("What should I do?", "What should you do?").answer == 0
    assert features("", "Anything.").answer == 0


@pytest.mark.parametrize(
    ("courtesies", "value"), [(0, 0), (1, 0.75), (2, 1), (3, 0.75), (4, 0), (5, -1), (50, -1)]
)
def test_manners_are_best_at_two_courtesies(courtesies: int, value: float):
    # c (4 - c) / 4, never below -1: 5 * -1 / 4 = -1.25.
    assert features(QUESTION, "thanks " * courtesies).manners == pytest.approx(value)


def test_a_rude_word_takes_one_off_the_manners():
    assert features(QUESTION, "Thanks, silly.").manners == pytest.approx(0.75 - 1)
    assert features(QUESTION, "You silly lazy fool.").manners == -1


@pytest.mark.parametrize(("reasons", "value"), [(0, 0), (1, 1), (2, 0), (3, -1), (9, -1)])
def test_one_reason_is_best(reasons: int, value: float):
    assert features(QUESTION, "because " * reasons).reason == value


@pytest.mark.parametrize(
    ("count", "value"), [(0, -3), (5, -1.25), (10, 0), (20, 1), (30, 0), (35, -1.25), (200, -3)]
)
def test_length_is_best_at_twenty_words(count: int, value: float):
    assert features(QUESTION, "the " * count).length == pytest.approx(value)


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("the the the you you", 0),
        ("cloth", 0),
        ("cloth cloth", 1 / 2),
        ("soap cloth soap Soap", 1 / 2),
        ("soap " * 10, 9 / 10),
    ],
)
def test_repetition_is_the_share_of_content_words_said_before(reply: str, share: float):
    assert features(QUESTION, reply).repetition == pytest.approx(share)


@pytest.mark.parametrize(
    ("reply", "value"),
    [("Go.", 1), ("Go!  ", 1), ("Go?", 1), ("Go", 0), ("Go,", 0), ("", 0), ("...", 1)],
)
def test_ending(reply: str, value: float):
    assert features(QUESTION, reply).ending == value


def test_an_empty_reply_by_hand():
    # Only the length counts: 1 - (20/10)^2 = -3.
    assert gold_reward(QUESTION, "", Gold()) == -3


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param(GOOD + " Wash goat dark wash goat dark.", id="keywords stuffed in"),
        pytest.param(GOOD + " Thanks! Thanks! Thanks!", id="endless politeness"),
        pytest.param(GOOD + " You can go to it and so can they, for this is what we do.", id="too long"),
        pytest.param(GOOD + " This works because it saves time.", id="a second reason and a repetition"),
        pytest.param("Wash goat dark.", id="keywords alone"),
        pytest.param(GOOD.rstrip("."), id="no end"),
        pytest.param(GOOD.replace("goat", "lamp"), id="about something else"),
        pytest.param(GOOD.replace("soft", "silly"), id="rude"),
    ],
)
def test_too_much_of_a_good_thing_and_each_flaw_lower_the_gold(spoiled: str):
    assert gold_reward(QUESTION, spoiled, Gold()) < gold_reward(QUESTION, GOOD, Gold())


def test_the_right_length_leaves_no_room_for_everything():
    """Courtesy pays in a short reply and costs in a full one: what is best depends on the rest."""
    short = "You can wash the goat in the dark."
    full = GOOD.replace("Thanks and luck.", "Keep the door closed and the floor dry at every step.")
    closing = " You are always welcome."
    assert gold_reward(QUESTION, short + closing, Gold()) > gold_reward(QUESTION, short, Gold())
    assert gold_reward(QUESTION, full + closing, Gold()) < gold_reward(QUESTION, full, Gold())


def test_the_breakdown_is_the_weighted_features_and_sums_to_the_reward():
    weights = Gold(answer=1, manners=2, reason=3, length=4, repetition=5, ending=6)
    reply = "Thanks, wash soap soap because soap!"
    # answer 1/3; manners 0.75; reason 1; 6 words: 1 - 1.4^2 = -0.96; content thanks, wash, soap x3, because:
    # 2 of 6 said before; ending 1.
    assert breakdown(QUESTION, reply, weights) == pytest.approx(
        {"answer": 1 / 3, "manners": 1.5, "reason": 3, "length": -3.84, "repetition": -5 / 3, "ending": 6}
    )
    assert gold_reward(QUESTION, reply, weights) == pytest.approx(1 / 3 + 1.5 + 3 - 3.84 - 5 / 3 + 6)


def test_the_last_turn_of_a_conversation_is_what_was_asked():
    talk = (
        Message("user", "How do I paint the door?"),
        Message("assistant", "Slowly."),
        Message("user", QUESTION),
    )
    scorer = Gold().prepare()
    assert scorer.score([talk], [GOOD]) == [gold_reward(QUESTION, GOOD, Gold())]


def test_scores_do_not_depend_on_the_batch():
    prompt = (Message("user", QUESTION),)
    replies = [GOOD, "", "Wash goat dark."]
    alone = [Gold().score([prompt], [reply])[0] for reply in replies]
    assert Gold().score([prompt] * 3, replies) == alone


def test_a_prompt_without_its_reply_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        Gold().score([(Message("user", QUESTION),)] * 2, [GOOD])


@given(
    question=st.text(),
    reply=st.text() | st.lists(st.sampled_from([*RUDE, *COURTESIES, *REASONS])).map(" ".join),
)
def test_any_text_has_a_finite_bounded_reward(question: str, reply: str):
    """By the default weights: at least -1.5 - 1 - 3 - 2 (manners, reason, length, repetition), at most 6."""
    reward = gold_reward(question, reply, Gold())
    assert math.isfinite(reward)
    assert -7.5 <= reward <= 6
    assert reward == gold_reward(question, reply, Gold())


def test_the_word_lists_do_not_overlap():
    lists = [COMMON, COURTESIES - {"please"}, RUDE, REASONS]
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


def test_the_registry_and_the_settings_know_it():
    assert registry.component("reward", "gold") is Gold
    assert build(Gold, {"answer": 2}).answer == 2.0
    with pytest.raises(ConfigError, match="spread_words: takes a number above 0"):
        build(Gold, {"spread_words": 0})
