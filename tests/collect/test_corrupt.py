"""A good reply against its damaged self: kinds by weight, seeded, each pair whole."""

from __future__ import annotations

from collections import Counter

import pytest
from benches import TRUTH, bench, demonstrations, found, toy_records

from align.collect._bench import Abstained, Candidates, Outcome
from align.collect._damage import KINDS
from align.collect.corrupt import Corrupt
from align.config import build
from align.errors import ConfigError
from align.types import PreferenceRecord

NONE = dict.fromkeys(KINDS, 0.0)


def made(method: Corrupt, given: list[Candidates], seed: int = 0) -> list[Outcome]:
    return [one for (one,) in method.open(bench())(given, seed)]


def test_the_original_is_preferred_wherever_it_stands():
    texts = [f"One {i}. Two {i}. It is so." for i in range(40)]
    records = made(Corrupt(), demonstrations(texts))
    sides = Counter()
    for text, record in zip(texts, records, strict=True):
        assert isinstance(record, PreferenceRecord)
        pair = record.pair()
        assert pair is not None
        assert pair.chosen == text
        assert pair.rejected.split() != text.split()
        sides[record.preferred] += 1
        assert record.details["damage"] in KINDS
    assert set(sides) == {"first", "second"}


def test_kinds_are_drawn_by_weight():
    """3 to 1: of 400, 300 within four standard deviations."""
    method = Corrupt(**{**NONE, "truncated": 3.0, "repeated": 1.0})
    records = made(method, demonstrations([f"One {i}. Two." for i in range(400)]))
    counts = Counter(one.details["damage"] for one in records if isinstance(one, PreferenceRecord))
    assert set(counts) == {"truncated", "repeated"}
    assert abs(counts["truncated"] - 300) < 4 * (400 * 0.75 * 0.25) ** 0.5


def test_the_chunk_and_its_seed_decide_everything():
    given = demonstrations([f"One {i}. Two {i}. It is so." for i in range(20)])
    assert made(Corrupt(), given, 3) == made(Corrupt(), given, 3)
    assert made(Corrupt(), given, 3) != made(Corrupt(), given, 4)


def test_off_topic_is_a_reply_to_another_prompt():
    given = demonstrations(["a a", "b b", "c c"])
    records = made(Corrupt(**{**NONE, "off_topic": 1.0}), given)
    for item, record in zip(given, records, strict=True):
        assert isinstance(record, PreferenceRecord)
        others = {one.replies[0].text for one in given if one is not item}
        pair = record.pair()
        assert pair is not None
        assert pair.rejected in others


def test_what_cannot_be_damaged_is_counted_by_its_reason():
    method = Corrupt(**{**NONE, "truncated": 1.0})
    assert made(method, demonstrations(["Yes."])) == [Abstained("too_short_to_truncate", "truncated: 'Yes.'")]


def test_the_report_holds_labels_against_the_truth():
    """Cut replies lose by the gold far more often than not; it does not look at the order of sentences."""
    given = [
        Candidates(record.prompt, (record.replies[record.preferred == "second"],))
        for record in toy_records(600)
    ]
    both = Corrupt(**{**NONE, "truncated": 1.0, "shuffled_sentences": 1.0})
    collected = found([(one,) for one in made(both, given)])
    results = {one.metric: one.value for one in both.report(collected, TRUTH)}
    assert results["corrupt/truncated_pairs"] + results["corrupt/shuffled_sentences_pairs"] == len(
        collected.records
    )
    assert results["corrupt/truncated_accuracy"] > 0.9
    assert results["corrupt/shuffled_sentences_accuracy"] == pytest.approx(0.5, abs=0.06)
    shares = [
        results[f"corrupt/{kind}_pairs"] / len(collected.records) * results[f"corrupt/{kind}_accuracy"]
        for kind in ("truncated", "shuffled_sentences")
    ]
    assert results["labels/expected_accuracy"] == pytest.approx(sum(shares), abs=0.04)
    assert not any(name.endswith("accuracy") for name in (one.metric for one in both.report(collected, None)))


def test_settings_that_damage_nothing_are_refused():
    with pytest.raises(ConfigError, match="all kinds of damage have weight 0"):
        build(Corrupt, NONE)
