"""Records on disk: what is read is what was written, byte for byte, or the folder is refused."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import BadRow, DataError
from align.pairs.records import read_records, record_from, to_line, write_records
from align.types import Judge, Location, Message, PreferenceRecord, Reply, Strength

values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
details = st.dictionaries(st.text(), values, max_size=3)
replies = st.builds(Reply, st.text(), st.none() | st.text(), details, st.none() | st.integers(0))
words = st.none() | st.text()
records = st.builds(
    PreferenceRecord,
    id=st.text(),
    prompt=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text()), max_size=3
    ).map(tuple),
    replies=st.tuples(replies, replies),
    preferred=st.sampled_from(["first", "second", "tie", "both_bad"]),
    judge=st.builds(
        Judge, st.sampled_from(["human", "model", "function", "file"]), st.text(), st.none() | st.text()
    ),
    margin=st.none() | st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    strength=st.none() | st.integers(1, 7).map(lambda of: Strength(1 + of // 2, of)),
    method=words,
    prompt_id=st.text(),
    pair_id=st.text(),
    guideline=words,
    asked_at=words,
    judged_at=words,
    template=words,
    details=details,
    location=st.none() | st.builds(Location, st.text(), st.integers(1)),
)
ONE = PreferenceRecord(
    id="a",
    prompt=(Message("user", "Où?"),),
    replies=(Reply("Ici.", "m", {"temperature": 0.7}), Reply("Là.")),
    preferred="tie",
    judge=Judge("human", "ann"),
)


@settings(max_examples=40, deadline=None)
@given(records)
def test_a_record_is_read_as_it_was_written(record):
    line = to_line(record)
    assert line.count(b"\n") == 1
    again = record_from(json.loads(line))
    assert again == record
    assert to_line(again) == line


def test_a_folder_round_trips_byte_for_byte(tmp_path):
    from dataclasses import replace

    written = [replace(ONE, id=str(i), preferred=word) for i, word in enumerate(["tie", "first", "both_bad"])]
    assert write_records(tmp_path / "one", iter(written)) == 3
    read = list(read_records(tmp_path / "one"))
    assert read == written
    write_records(tmp_path / "two", read)
    for name in ("records.jsonl", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["records"] == 3
    assert manifest["preferred"] == {"first": 1, "second": 0, "tie": 1, "both_bad": 1}
    assert manifest["files"]["records.jsonl"]["bytes"] == (tmp_path / "one" / "records.jsonl").stat().st_size
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["manifest.json", "records.jsonl"]


def test_a_writer_that_fails_leaves_no_folder_that_looks_whole(tmp_path):
    write_records(tmp_path, [ONE])

    def failing():
        yield ONE
        raise RuntimeError("the judge went home")

    with pytest.raises(RuntimeError):
        write_records(tmp_path, failing())
    with pytest.raises(DataError, match=r"has no manifest\.json: it was not written to its end"):
        list(read_records(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_a_changed_file_is_refused(tmp_path, read):
    write_records(tmp_path, [ONE])
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b"tie", b"first"))
    for attempt in (lambda: list(read_records(tmp_path)), lambda: read("records", path=str(tmp_path))):
        with pytest.raises(DataError, match=r"is not the file that manifest\.json describes"):
            attempt()


def test_an_unknown_version_is_refused(tmp_path):
    write_records(tmp_path, [ONE])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    with pytest.raises(DataError, match="version 1; this align reads 'preference_records', version 2"):
        list(read_records(tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 1}, "unknown_version"),
        ({"version": None}, "unknown_version"),
        ({"preferred": "third"}, "unknown_preference"),
        ({"margin": -1}, "bad_margin"),
        ({"margin": "1"}, "bad_margin"),
        ({"margin": True}, "bad_margin"),
        ({"margin": math.nan}, "bad_margin"),
        ({"strength": {"step": 0, "of": 4}}, "bad_strength"),
        ({"strength": {"step": 5, "of": 4}}, "bad_strength"),
        ({"strength": {"step": True, "of": 4}}, "bad_strength"),
        ({"strength": {"step": 1}}, "not_a_record"),
        ({"pair_id": 3}, "not_text"),
        ({"details": None}, "not_a_record"),
        ({"replies": []}, "not_a_record"),
        ({"replies": None}, "not_a_record"),
        ({"judge": {"who": "ann"}}, "not_a_record"),
        ({"judge": {"kind": "human", "name": 3}}, "not_text"),
        ({"judge": {"kind": "human", "name": "ann", "version": 3}}, "not_text"),
        ({"judge": {"kind": "animal", "name": "ann"}}, "unknown_judge"),
        ({"prompt": [{"role": "user", "content": 3}]}, "not_text"),
        ({"prompt": [{"role": "tool", "content": ""}]}, "unknown_role"),
        ({"prompt": ["Why?"]}, "not_a_record"),
        ({"id": 3}, "not_text"),
    ],
)
def test_values_that_make_no_record_are_named(change, reason):
    with pytest.raises(BadRow) as bad:
        record_from(json.loads(to_line(ONE)) | change)
    assert bad.value.reason == reason


@pytest.mark.parametrize("margin", [math.nan, math.inf])
def test_what_json_cannot_hold_is_not_written(margin, tmp_path):
    from dataclasses import replace

    with pytest.raises(DataError, match="record 'a' cannot be written"):
        write_records(tmp_path, [replace(ONE, margin=margin)])
    with pytest.raises(DataError, match="record 'a' cannot be written"):
        write_records(tmp_path, [replace(ONE, method="\ud800")])
    assert not list(tmp_path.iterdir())


def test_ties_are_left_out_of_training_and_counted(tmp_path, read):
    from dataclasses import replace

    written = [
        ONE,
        replace(ONE, id="b", preferred="second", margin=2.0),
        replace(ONE, id="c", prompt=(Message("user", "Quand?"),), preferred="both_bad"),
    ]
    write_records(tmp_path, written)
    prepared = read(
        "records", path=str(tmp_path), test_fraction=0.0, validation_fraction=0.0, bad_rows="error"
    )
    assert read.refusals() == [(1, "not_decisive"), (3, "not_decisive")]
    (pair,) = (prepared.train.text(i) for i in range(len(prepared.train)))
    assert (pair.id, pair.chosen, pair.rejected, pair.margin) == ("b", "Là.", "Ici.", 2.0)
