"""Ties by policy: none, one in a drawn direction, one in each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from byte_chat import settings

from align.pairs.read import examples, report_for
from align.pairs.records import write_records
from align.pairs.ties import pairs_of
from align.types import Judge, Message, PreferenceRecord, Reply

TIE = PreferenceRecord(
    id="t",
    prompt=(Message("user", "Sky?"),),
    replies=(Reply("Blue."), Reply("Azure.")),
    preferred="tie",
    judge=Judge("human", "ann"),
)


@pytest.mark.parametrize("ties", ["drop", "half", "both"])
def test_what_is_decided_is_itself_under_every_policy(ties):
    decided = replace(TIE, preferred="second", margin=2.0)
    assert pairs_of(decided, ties) == [decided.pair()]
    assert pairs_of(replace(TIE, preferred="both_bad"), ties) == []


def test_both_directions_are_two_pairs_with_ids_of_their_own():
    ahead, behind = pairs_of(replace(TIE, margin=0.0), "both")
    assert (ahead.id, ahead.chosen, ahead.rejected) == ("t:first", "Blue.", "Azure.")
    assert (behind.id, behind.chosen, behind.rejected) == ("t:second", "Azure.", "Blue.")
    assert ahead.margin == behind.margin == 0.0


def test_half_draws_each_side_evenly_and_always_the_same():
    """2,000 fair draws: the share of firsts lies within 4 standard deviations (0.045) of a half."""
    drawn = [pairs_of(replace(TIE, id=str(i)), "half") for i in range(2000)]
    assert {len(one) for one in drawn} == {1}
    first = [one[0].chosen == "Blue." for one in drawn]
    assert abs(sum(first) / len(first) - 0.5) < 0.045
    again = [pairs_of(replace(TIE, id=str(i)), "half") for i in range(2000)]
    assert drawn == again


def test_two_equal_replies_are_never_a_pair():
    same = replace(TIE, replies=(Reply("Blue."), Reply("Blue.")))
    assert [pairs_of(same, ties) for ties in ("drop", "half", "both")] == [[], [], []]


@pytest.mark.parametrize(
    ("ties", "wants", "count"),
    [
        ("drop", "pairs", 1),
        ("half", "pairs", 2),
        ("both", "pairs", 3),
        ("both", "unpaired", 6),
        ("half", "unpaired", 4),
        ("both", "demonstrations", 3),
    ],
)
def test_each_kind_of_example_is_made_of_the_pairs(tmp_path, ties, wants, count):
    """A decided pair, a tie, and two bad replies, which no policy uses."""
    asked = (Message("user", "Sea?"),)
    write_records(
        tmp_path,
        [
            TIE,
            replace(TIE, id="d", prompt=asked, preferred="first"),
            replace(TIE, id="b", prompt=(Message("user", "Fog?"),), preferred="both_bad"),
        ],
    )
    dataset = settings("records", path=str(tmp_path), ties=ties, bad_rows="error")
    report = report_for(dataset)
    found = [example for _, example, _ in examples(dataset, report, wants)]
    assert len(found) == count
    assert len({example.id for example in found}) == count
    assert report.refused == {"not_decisive": 2 if ties == "drop" else 1}
