"""What a dataset gives to start from: replies with all that is known of them, pairs without a judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benches import bench, toy_records

from align.collect._bench import Abstained, Candidates
from align.collect._given import read_given
from align.collect.noise import Noise
from align.pairs.candidates import unjudged, write_candidates
from align.pairs.records import write_records
from align.settings import CollectionSettings, DatasetSettings
from data.records import Records


def here(source: object) -> DatasetSettings:
    """All of it in the training split."""
    return DatasetSettings(source, test_fraction=0, validation_fraction=0)  # type: ignore[arg-type]


def test_a_chosen_reply_keeps_who_wrote_it(tmp_path: Path):
    records = toy_records(20)
    write_records(tmp_path, records)
    found = read_given(here(Records(str(tmp_path))), "demonstrations", CollectionSettings(), tmp_path / "run")
    chosen = [one.replies[0 if one.preferred == "first" else 1] for one in records]
    assert [item.replies for item in found.items] == [(reply,) for reply in chosen]
    assert all(reply.model for reply in chosen)


def test_pairs_that_nobody_judged_are_given_without_a_judgement(tmp_path: Path):
    records = toy_records(10)
    write_candidates(tmp_path / "candidates", map(unjudged, records))
    for path in (tmp_path, tmp_path / "candidates", tmp_path / "candidates" / "candidates.jsonl"):
        found = read_given(here(Records(str(path))), "pairs", CollectionSettings(), tmp_path / "run")
        assert [item.replies for item in found.items] == [one.replies for one in records]
        assert [item.record for item in found.items] == [None] * 10


def test_pairs_that_were_judged_are_given_with_their_judgement(tmp_path: Path):
    records = toy_records(10)
    write_records(tmp_path, records)
    found = read_given(here(Records(str(tmp_path))), "pairs", CollectionSettings(), tmp_path / "run")
    assert [one.record and replace(one.record, location=None) for one in found.items] == list(records)


def test_what_nobody_judged_has_no_label_to_turn_round():
    first = toy_records(1)[0]
    given = [Candidates(first.prompt, first.replies)]
    ((outcome,),) = Noise(rate=1).open(bench())(given, 0)
    assert isinstance(outcome, Abstained)
    assert outcome.reason == "not_judged"
