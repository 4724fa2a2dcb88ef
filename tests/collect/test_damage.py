"""Damaged replies: what each kind may change, and when it has to give up."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.collect._damage import KINDS, Kind, Undamaged, damaged

REPLY = "You can wash the goat. It is safe because nothing breaks. Go slowly!"
OTHER = "Use a heavy pan."


def of(kind: Kind, reply: str = REPLY, seed: int = 0, other: str | None = OTHER) -> str:
    found = damaged(kind, reply, Random(seed), other)
    assert isinstance(found, str)
    return found


def reason(kind: Kind, reply: str, other: str | None = None) -> str:
    found = damaged(kind, reply, Random(0), other)
    assert isinstance(found, Undamaged)
    return found.reason


@pytest.mark.parametrize("seed", range(30))
def test_each_kind_changes_what_it_says(seed: int):
    words = REPLY.split()
    shuffled = of("shuffled_words", seed=seed).split()
    assert Counter(shuffled) == Counter(words)
    assert shuffled != words
    moved = of("shuffled_sentences", seed=seed)
    assert Counter(moved.replace("! ", "!|").replace(". ", ".|").split("|")) == Counter(
        ["You can wash the goat.", "It is safe because nothing breaks.", "Go slowly!"]
    )
    cut = of("truncated", seed=seed)
    assert REPLY.startswith(cut)
    assert 1 <= len(cut.split()) <= 2 * len(words) // 3
    repeated = of("repeated", seed=seed)
    rest = repeated.removeprefix(REPLY).strip()
    assert any(rest == " ".join([one] * times) for one in sentences() for times in (2, 3, 4))
    assert of("off_topic", seed=seed) == OTHER


def sentences() -> list[str]:
    return ["You can wash the goat.", "It is safe because nothing breaks.", "Go slowly!"]


def test_every_length_of_a_cut_occurs():
    """One to eight of 13 words: each is drawn in 400."""
    assert {len(of("truncated", seed=seed).split()) for seed in range(400)} == set(range(1, 9))


@pytest.mark.parametrize(
    ("reply", "turned"),
    [
        ("You can go.", {"You cannot go."}),
        ("You cannot go.", {"You can go."}),
        ("Can't you go?", {"Can you go?"}),
        ("I won’t.", {"I will."}),
        ("It isn't so.", {"It is so."}),
        ("Do not run.", {"Do run."}),
        ("It IS so, and was.", {"It IS not so, and was.", "It IS so, and was not."}),
        ("The island canoe", None),
    ],
)
def test_negation_by_hand(reply: str, turned: set[str] | None):
    found = {damaged("negated", reply, Random(seed), None) for seed in range(20)}
    assert found == (turned if turned is not None else {Undamaged("nothing_to_negate")})


def test_what_cannot_be_damaged_says_why():
    assert reason("shuffled_words", "well well well") == "too_short_to_shuffle"
    assert reason("shuffled_sentences", "One sentence only") == "too_few_sentences"
    assert reason("truncated", "Yes.") == "too_short_to_truncate"
    assert reason("repeated", "  ") == "nothing_to_repeat"
    assert reason("off_topic", REPLY) == "no_other_reply"
    assert reason("off_topic", REPLY, other=f" {REPLY}\n") == "no_other_reply"


@given(reply=st.text(max_size=60), other=st.none() | st.text(max_size=20), seed=st.integers(0, 9))
def test_any_text_is_changed_or_given_up(reply: str, other: str | None, seed: int):
    """And the same seed damages it the same way."""
    for kind in KINDS:
        found = damaged(kind, reply, Random(seed), other)
        assert found == damaged(kind, reply, Random(seed), other)
        if isinstance(found, str):
            assert found.split() != reply.split()
