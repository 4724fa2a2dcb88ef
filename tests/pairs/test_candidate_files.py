"""Candidate pairs on disk: a record's line less its judgement."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from align.errors import BadRow, DataError
from align.pairs.candidates import judged, read_candidates, unjudged, write_candidates
from align.pairs.check import pair_id, prompt_id
from align.pairs.records import read_records, record_from, to_line, write_records
from align.types import CandidatePair, Judge, Location, Message, PreferenceRecord, Reply

PAIR = CandidatePair(
    prompt=(Message("user", "Why is the sky blue?"),),
    replies=(Reply("Because ü.", "m", {"temperature": 0.5}, 3), Reply("No idea.")),
    method="active",
    prompt_id="p",
    pair_id="q",
    asked_at="2024-01-02T03:04:05Z",
    template="t",
    details={"disagreement": 0.5},
    location=Location("pool.jsonl", 7),
)


def test_a_folder_round_trips_byte_for_byte(tmp_path: Path):
    assert write_candidates(tmp_path / "one", iter([PAIR, PAIR])) == 2
    read = list(read_candidates(tmp_path / "one"))
    assert read == [PAIR, PAIR]
    write_candidates(tmp_path / "two", read)
    for name in ("candidates.jsonl", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["records"]) == ("candidate_pairs", 2)


def test_a_line_is_a_records_with_the_judgement_blank(tmp_path: Path):
    write_candidates(tmp_path, [PAIR])
    values = json.loads((tmp_path / "candidates.jsonl").read_text())
    record = json.loads(to_line(judged(PAIR, "first", Judge("human", "ann"), margin=1.0)))
    assert list(values) == list(record)
    other = {name for name in values if values[name] != record[name]}
    assert other == {"preferred", "judge", "margin"}
    assert {values[name] for name in other} == {None}


def test_a_judgement_goes_on_and_comes_off():
    record = judged(PAIR, "second", Judge("human", "ann"), guideline="v1", id="x")
    assert isinstance(record, PreferenceRecord)
    assert (record.preferred, record.guideline, record.id) == ("second", "v1", "x")
    assert unjudged(record) == PAIR


def test_ids_are_filled_in():
    bare = CandidatePair(PAIR.prompt, PAIR.replies)
    record = judged(bare, "tie", Judge("human", "ann"))
    assert record.prompt_id == prompt_id(PAIR.prompt)
    assert record.pair_id == pair_id(record)
    turned = CandidatePair(PAIR.prompt, PAIR.replies[::-1])
    assert judged(turned, "tie", Judge("human", "ann")).pair_id == record.pair_id


def test_records_and_candidates_are_told_apart(tmp_path: Path):
    write_candidates(tmp_path / "candidates", [PAIR])
    write_records(tmp_path / "records", [judged(PAIR, "first", Judge("human", "ann"))])
    with pytest.raises(DataError, match=r"of kind 'candidate_pairs'.*reads 'preference_records'"):
        list(read_records(tmp_path / "candidates"))
    with pytest.raises(DataError, match=r"of kind 'preference_records'.*reads 'candidate_pairs'"):
        list(read_candidates(tmp_path / "records"))
    with pytest.raises(BadRow) as bad:
        record_from(json.loads((tmp_path / "candidates" / "candidates.jsonl").read_text()))
    assert bad.value.reason == "not_judged"


def test_a_line_that_was_judged_is_no_candidate(tmp_path: Path):
    write_candidates(tmp_path, [PAIR])
    path = tmp_path / "candidates.jsonl"
    line = path.read_bytes().replace(b'"preferred": null', b'"preferred": "tie"')
    path.write_bytes(line)
    with pytest.raises(DataError, match=r"is not the file that manifest\.json describes"):
        list(read_candidates(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["candidates.jsonl"]["sha256"] = hashlib.sha256(line).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"candidates\.jsonl:1: judged: a record, and no candidate"):
        list(read_candidates(tmp_path))
