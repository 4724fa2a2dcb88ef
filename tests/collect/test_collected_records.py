"""What every record of a collection holds to: places that tell nothing, scores that are numbers, seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from benches import bench, demonstrations, toy_records
from scribes import Scribe, draft, given

from align.collect._bench import Abstained, Candidates, Outcome, placed
from align.collect._loop import collected
from align.collect._results import nothing
from align.collect.active import Active
from align.collect.contrast import Contrast
from align.collect.corrupt import Corrupt
from align.collect.critique import Critique
from align.collect.noise import Noise
from align.collect.strength import Strength
from align.errors import AlignError
from align.types import CandidatePair, Judge, PreferenceRecord, Prompt


@dataclass(frozen=True)
class NoNumber:
    """A reward that has lost its way."""

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        return [math.nan] * len(replies)


class Reader(Scribe):
    """Reads whatever it is asked."""

    name, version = "reader", "0123"

    def fits(self, prompt: Prompt) -> bool:
        return True


def test_where_a_reply_stands_follows_from_the_texts_alone():
    places = set()
    for record in toy_records(40):
        one, other = record.replies
        first = placed(record.prompt, one, other)
        assert first == placed(record.prompt, other, one)
        places.add(first[0] is one)
    assert places == {True, False}


def test_the_place_of_a_candidates_replies_tells_nothing_of_the_datas_order():
    """Much data has the preferred reply first in every row."""
    for record in toy_records(20):
        rows = [Candidates(record.prompt, replies) for replies in (record.replies, record.replies[::-1])]
        (one,), (other,) = Active(by="random").open(bench())(rows, 0)
        assert isinstance(one, CandidatePair)
        assert one == other


def test_a_score_that_is_no_number_labels_nothing():
    wrote = Scribe(lambda prompt, seed, place: draft(f"reply {place}"))
    with pytest.raises(AlignError, match="the reward's scores"):
        Contrast(label="reward").open(bench(NoNumber(), wrote))(given("A"), 0)
    record = toy_records(1)[0]
    with pytest.raises(AlignError, match="the reward's scores"):
        Active(by="margin").open(bench(NoNumber()))([Candidates(record.prompt, record.replies)], 0)


def test_a_damaged_reply_has_the_seed_that_damaged_it():
    ((record,),) = Corrupt().open(bench())(demonstrations(["One two. It is so. Three."]), 7)
    assert isinstance(record, PreferenceRecord)
    assert sorted((reply.seed for reply in record.replies), key=str) == [7, None]


def test_whitespace_does_not_tell_a_revision_from_what_it_revises():
    asked = Reader(lambda prompt, seed, place: draft(" Better. \n"))
    items = demonstrations(["\n\n  As it was. "])
    ((record,),) = Critique(replies="dataset").open(bench(writer=asked))(items, 0)
    assert isinstance(record, PreferenceRecord)
    assert {reply.text for reply in record.replies} == {"Better.", "As it was."}
    assert record.judge == Judge("model", "reader", "0123")


def test_several_judges_of_a_pair_are_all_kept_and_each_of_them_once():
    record = toy_records(1)[0]
    votes: list[tuple[Outcome, ...]] = [
        (PreferenceRecord(**{**vars(record), "judge": Judge("human", name)}),)
        for name in ("ann", "bob", "ann")
    ]
    found = collected(Noise(), votes, 0)
    assert [one.judge.name for one in found.records] == ["ann", "bob"]
    assert found.abstained == {"repeated_pair": 1}


def test_a_source_whose_name_holds_a_word_of_ours_is_counted():
    files = ("you and me.json", "them.json")
    method = Strength(files)
    found = [Abstained("no_reply", " and ".join(missing)) for missing in (files[:1], files[1:], files)]
    assert method._absent(found) == [{files[0]}, {files[1]}, set(files)]


def test_that_nothing_came_of_it_is_told_with_its_reasons():
    told = nothing("20 prompts", {"tie": 2, "not_ended": 18})
    assert told == (
        "warning: not one pair came of 20 prompts: not_ended 18, tie 2. "
        "Replies that were cut make no pair: raise sampling.max_new_tokens"
    )
    assert nothing("3 pairs", {"unreadable": 3}) == "warning: not one pair came of 3 pairs: unreadable 3"
