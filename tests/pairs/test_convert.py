"""Each format is read back by its reader as the same pairs, and what it cannot hold is refused or counted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from byte_chat import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from align.compose import run_from
from align.errors import BadRow, ConfigError, DataError
from align.pairs.check import pair_id, prompt_id, record_id
from align.pairs.convert import convert, lines
from align.pairs.exports import FORMATS, LOSSES
from align.pairs.read import examples, report_for
from align.pairs.records import write_records
from align.types import (
    Demonstration,
    Judge,
    Message,
    PreferencePair,
    PreferenceRecord,
    Reply,
    Strength,
    UnpairedExample,
)

ONE = PreferenceRecord(
    id="one",
    prompt=(Message("user", "Sky?"),),
    replies=(Reply("Blue."), Reply("Green.")),
    preferred="second",
    judge=Judge("human", "ann"),
)
CHAT = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Sky?"))
SYSTEM = (Message("system", "Be brief."), Message("user", "Sky?"))


def content(example):
    """An example without what a reader makes anew: its id, where the format has none, and its place."""
    prompt = tuple((turn.role, turn.content) for turn in example.prompt)
    if isinstance(example, PreferencePair):
        return prompt, example.chosen, example.rejected
    return prompt, example.reply, getattr(example, "desirable", None)


def stripped(found):
    prompt, *texts = found
    return tuple((role, text.strip()) for role, text in prompt), *(text.strip() for text in texts)


def read_back(done, name):
    dataset = settings(done.reader, path=str(done.path))
    report = report_for(dataset)
    return [example for _, example, _ in examples(dataset, report, FORMATS[name].wants)], report


def converted(folder, written, name, **values):
    write_records(folder / "in", written)
    return convert(settings("records", path=str(folder / "in"), **values), name, folder / "out")


@pytest.mark.parametrize("name", FORMATS)
def test_the_toy_world_comes_back_from_every_format(name, tmp_path):
    toy = settings("toy", pairs=60, prompts=30)
    done, report = convert(toy, name, tmp_path)
    expected = [example for _, example, _ in examples(toy, report_for(toy), FORMATS[name].wants)]
    found, again = read_back(done, name)
    assert [content(one) for one in found] == [content(one) for one in expected]
    assert done.rows == len(expected) == report.kept.total() == sum(1 for _ in done.path.open())
    assert not again.refused
    carried = FORMATS[name].carries
    if "id" in carried:
        assert [one.id for one in found] == [one.id for one in expected]
    if "margin" in carried:
        assert [one.margin for one in found] == [one.margin for one in expected]


@pytest.mark.parametrize("name", FORMATS)
def test_the_manifest_counts_and_hashes_what_was_written(name, tmp_path):
    done, _ = convert(settings("toy", pairs=9), name, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    data = (tmp_path / f"{name}.jsonl").read_bytes()
    assert manifest == {
        "kind": "converted",
        "format": name,
        "rows": data.count(b"\n"),
        "files": {f"{name}.jsonl": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}},
    }
    assert done.sha256 == hashlib.sha256(data).hexdigest()


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ["\n\nHuman:", " a", "b\n", "\n\nAssistant: x", "Human:", "\n\n", "a"]
)
prompts = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=4
).map(tuple)
generated = st.lists(
    st.builds(
        PreferenceRecord,
        id=st.just(""),
        prompt=prompts,
        replies=st.tuples(st.builds(Reply, texts), st.builds(Reply, texts)),
        preferred=st.sampled_from(["first", "second", "tie", "both_bad"]),
        judge=st.builds(Judge, st.just("human"), st.sampled_from(["ann", "bob"])),
        margin=st.none() | st.floats(0, 9),
    ),
    max_size=6,
)


@pytest.mark.medium
@pytest.mark.parametrize("name", FORMATS)
@effort(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(generated, st.sampled_from(["drop", "half", "both"]))
def test_whatever_is_written_reads_the_same(name, tmp_path, written, ties):
    """A reader finds the examples that the format can hold, in their order; of a pair, the first."""
    write_records(tmp_path / "in", written)
    dataset = settings("records", path=str(tmp_path / "in"), ties=ties)
    found = [one for _, one, _ in examples(dataset, report_for(dataset), FORMATS[name].wants)]
    held = [one for one in found if holds(name, one)]
    if not held:
        with pytest.raises(DataError, match=r"can be used|has no rows"):
            convert(dataset, name, tmp_path / "out")
        return
    done, _ = convert(dataset, name, tmp_path / "out")
    back, again = read_back(done, name)
    expected = [stripped(content(one)) if name == "hh" else content(one) for one in held]
    firsts = {(one[0], frozenset(one[1:]) if name in PAIRS else one[1]): one for one in reversed(expected)}
    once = dict.fromkeys(one for one in expected if one in firsts.values())
    assert [content(one) for one in back] == list(once)
    assert done.rows == len(held) == len(back) + again.refused.total()
    assert bool(again.refused) == ("repeated" in done.lost)


def holds(name, example):
    try:
        FORMATS[name].row(example)
    except BadRow:
        return False
    return True


PAIRS = ("trl_standard", "trl_conversational", "hh")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("trl_standard", {"prompt": CHAT}, "not_one_message"),
        ("trl_standard", {"prompt": SYSTEM}, "not_one_message"),
        ("trl_standard", {"prompt": SYSTEM[:1]}, "not_one_message"),
        ("hh", {"prompt": SYSTEM}, "system_turn"),
        ("hh", {"prompt": (*CHAT, Message("user", "Well?"))}, "turns_in_a_row"),
        ("hh", {"prompt": (Message("user", "Say \n\nHuman: hi"),)}, "marker_in_text"),
        ("hh", {"replies": (Reply("a\n\nAssistant: b"), Reply("c"))}, "marker_in_text"),
        ("hh", {"replies": (Reply("a"), Reply("a "))}, "same_replies"),
        ("trl_standard", {"preferred": "tie"}, "not_decisive"),
        ("unpaired", {"preferred": "both_bad"}, "not_decisive"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_line(name, change, reason, tmp_path):
    sea = replace(ONE, id="sea", prompt=(Message("user", "Sea?"),))
    done, report = converted(tmp_path, [sea, replace(ONE, **change)], name)
    rows = json.loads((tmp_path / "out" / "data_report.json").read_text())["rows"]
    assert [(row["line"], row["reason"]) for row in rows] == [(2, reason)]
    assert done.rows == (2 if name == "unpaired" else 1)
    assert json.loads((tmp_path / "out" / "lost.json").read_text())["refused"] == {reason: 1}
    assert report.complete


def test_what_a_conversation_can_hold_trl_conversational_holds(tmp_path):
    done, report = converted(
        tmp_path, [replace(ONE, prompt=CHAT), replace(ONE, id="2", prompt=SYSTEM)], "trl_conversational"
    )
    assert (done.rows, report.refused) == (2, {})


def test_a_format_that_cannot_hold_all_stops_where_bad_rows_do(tmp_path):
    with pytest.raises(DataError, match="system_turn: a transcript has no system's turns"):
        converted(tmp_path, [ONE, replace(ONE, id="2", prompt=SYSTEM)], "hh", bad_rows="error")
    assert not (tmp_path / "out" / "hh.jsonl").exists()
    assert not (tmp_path / "out" / "manifest.json").exists()


FULL = replace(
    ONE,
    prompt=(Message("user", "Sea?"),),
    id="full",
    margin=0.5,
    strength=Strength(1, 3),
    method="annotate",
    guideline="2",
    judged_at="2024-05-02T10:00:00+00:00",
    template="abc",
    details={"reason": "wet"},
    replies=(Reply("Blue. ", "m", {"temperature": 0.7}, 3), Reply("Wet.")),
)
ALWAYS = {"judge": 2, "order": 2, "place": 2}
OF_FULL = {"strength": 1, "origin": 1, "method": 1, "guideline": 1, "times": 1, "template": 1, "details": 1}


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("trl_standard", {**ALWAYS, **OF_FULL}),
        ("trl_conversational", {**ALWAYS, **OF_FULL}),
        ("hh", {**ALWAYS, **OF_FULL, "id": 2, "margin": 1, "whitespace": 1}),
        ("prompt_completion", {**ALWAYS, **OF_FULL, "pair": 2, "margin": 1}),
        ("unpaired", {**ALWAYS, **OF_FULL, "pair": 2, "margin": 1}),
    ],
)
def test_what_is_lost_is_counted(name, lost, tmp_path):
    done, report = converted(tmp_path, [ONE, FULL], name)
    assert done.lost == lost
    written = json.loads((tmp_path / "out" / "lost.json").read_text())
    assert {loss: one["records"] for loss, one in written["lost"].items()} == lost
    said = "\n".join(lines(done, report))
    assert "who judged: 2 records" in said
    assert f"(read by dataset={done.reader})" in said


def test_ties_are_lost_as_such_where_they_become_pairs(tmp_path):
    done, _ = converted(tmp_path, [replace(ONE, preferred="tie")], "trl_standard", ties="both")
    assert (done.rows, done.lost["tie"], done.lost["repeated"]) == (2, 1, 1)
    rows = [json.loads(line) for line in done.path.read_text().splitlines()]
    assert [(row["id"], row["chosen"], row["rejected"]) for row in rows] == [
        ("one:first", "Blue.", "Green."),
        ("one:second", "Green.", "Blue."),
    ]


def test_votes_are_written_each_or_together(tmp_path):
    votes = [replace(ONE, id=name, judge=Judge("human", name)) for name in ("ann", "bob", "cy")]
    done, _ = converted(tmp_path / "each", votes, "trl_standard")
    assert (done.rows, done.lost["repeated"]) == (3, 2)
    done, _ = converted(tmp_path / "one", votes, "trl_standard", votes="majority")
    assert (done.rows, "repeated" in done.lost) == (1, False)


def test_records_come_back_byte_for_byte(tmp_path):
    """Ties, votes, details, with a place and without: what this project wrote it writes again."""
    written = [
        replace(record, prompt_id=prompt_id(record.prompt), pair_id=pair_id(record))
        for record in (
            FULL,
            replace(ONE, preferred="tie"),
            replace(ONE, id="b", preferred="both_bad", judge=Judge("model", "gpt", "4"), margin=2),
            replace(ONE, id="c", prompt=SYSTEM, details={"ü": [1, 1.0, None, {"a": 1e-7}]}),
        )
    ]
    done, _ = converted(tmp_path, written, "records")
    assert (done.rows, done.lost) == (4, {})
    for name in ("records.jsonl", "manifest.json"):
        assert (done.path / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    # a run's directory is enough
    again, _ = convert(settings("records", path=str(tmp_path / "out")), "records", tmp_path / "again")
    assert (again.path / "records.jsonl").read_bytes() == (done.path / "records.jsonl").read_bytes()


def test_records_of_another_source_keep_their_place_and_come_back(tmp_path):
    done, _ = convert(settings("toy", pairs=20), "records", tmp_path / "a")
    again, _ = convert(settings("records", path=str(done.path)), "records", tmp_path / "b")
    assert (again.path / "records.jsonl").read_bytes() == (done.path / "records.jsonl").read_bytes()
    first = json.loads((done.path / "records.jsonl").read_text().splitlines()[0])
    assert first["location"] == {"path": "toy", "line": 1}
    assert first["judge"]["name"] == "gold"


def test_the_datas_own_split_is_lost_in_one_file(tmp_path):
    for name in ("train", "test"):
        row = {"prompt": name, "chosen": "Blue.", "rejected": "Green."}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    own = settings("preference", path=str(tmp_path), test_split="test")
    done, _ = convert(own, "trl_standard", tmp_path / "out")
    assert (done.rows, done.lost["own_split"]) == (2, 2)
    one, _ = convert(settings("preference", path=str(tmp_path)), "trl_standard", tmp_path / "one")
    assert (one.rows, "own_split" in one.lost) == (1, False)


def test_demonstrations_and_labelled_replies_are_converted_too(tmp_path):
    rows = [{"prompt": "Sky?", "completion": one, "label": one == "Blue."} for one in ("Blue.", "Red.")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = settings("unpaired", path=str(tmp_path / "in.jsonl"))
    done, _ = convert(labelled, "unpaired", tmp_path / "a")
    found, _ = read_back(done, "unpaired")
    assert [(one.reply, one.desirable) for one in found if isinstance(one, UnpairedExample)] == [
        ("Blue.", True),
        ("Red.", False),
    ]
    done, report = convert(labelled, "prompt_completion", tmp_path / "b")
    (found,), _ = read_back(done, "prompt_completion")
    assert isinstance(found, Demonstration)
    assert (found.reply, report.refused, done.lost) == ("Blue.", {"not_desirable": 1}, {"place": 1})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["convert.format=hh", "dataset=demonstrations", "dataset.path=a"], "needs preference pairs"),
        (["convert.format=unpaired", "dataset=demonstrations", "dataset.path=a"], "needs labelled replies"),
        (["convert.format=hhh"], "Did you mean 'hh'"),
        (["dataset.ties=half"], "records keep them as they are"),
    ],
)
def test_what_cannot_be_converted_is_said_before_anything_is_read(words, expected):
    with pytest.raises(ConfigError, match=expected):
        run_from(["stage=convert", "run.dir=unused", *words], [])


def test_every_loss_can_be_lost_or_carried():
    """A misspelt name in ``carries`` would hide nothing and nobody would notice."""
    assert all(set(form.carries) <= set(LOSSES) for form in FORMATS.values())


def test_an_id_is_that_of_the_judgement(tmp_path):
    assert record_id(ONE) != record_id(replace(ONE, judge=Judge("human", "bob")))
    assert pair_id(ONE) == pair_id(replace(ONE, judge=Judge("human", "bob")))
