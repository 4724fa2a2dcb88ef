"""From rows to token files: lengths, cuts, splits, repeats, fingerprints. One token is one byte here."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from byte_chat import END, ByteChat, settings

from align.errors import DataError, ModelError
from align.pairs.prepare import prepare
from align.pairs.prompts import read_prompts
from align.pairs.read import records, report_for, texts
from align.pairs.store import ROWS, TokenStore
from align.types import Location, Message

ALL_TRAIN = {"test_fraction": 0.0, "validation_fraction": 0.0}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


@pytest.fixture
def many(tmp_path):
    rows = [pair(f"question {i % 400}", f"yes {i}", "no" * (i % 7 + 1), margin=i / 8) for i in range(600)]
    return write(tmp_path / "many.jsonl", rows)


def test_tokens_and_text_lie_side_by_side(read, tmp_path):
    path = write(tmp_path / "a.jsonl", [pair("ab", "c", "de", margin=1.5), pair("f", "g", "h", id="own")])
    prepared = read("preference", path=path, **ALL_TRAIN)
    first, second = prepared.train
    assert first.prompt_ids.tolist() == [97, 98]
    assert first.chosen_ids.tolist() == [99, END]
    assert first.rejected_ids.tolist() == [100, 101, END]
    assert first.prompt_ids.dtype == np.int32
    assert (first.margin, second.margin, second.id) == (1.5, None, "own")
    text = prepared.train.text(0)
    assert (text.prompt, text.chosen, text.rejected) == ((Message("user", "ab"),), "c", "de")
    assert (text.id, text.margin, text.location) == (first.id, 1.5, Location(path, 1))
    assert prepared.train.lengths.tolist() == [5, 3]
    assert len(prepared.test) == len(prepared.validation) == 0
    assert prepared.test.lengths.tolist() == []


def test_a_store_is_indexed_over_its_batches_and_pickled(read, many):
    store = read("preference", path=many, **ALL_TRAIN).train
    assert len(store) == 600 > 2 * ROWS
    for i in (0, ROWS - 1, ROWS, 2 * ROWS, 599):
        assert store.text(i).chosen == f"yes {i}"
        assert bytes(store[i].chosen_ids[:-1].tolist()).decode() == f"yes {i}"
        assert (
            len(store[i].prompt_ids) + max(len(store[i].chosen_ids), len(store[i].rejected_ids))
            == (store.lengths[i])
        )
    assert store[-1].id == store[599].id
    with pytest.raises(IndexError, match="holds 600 examples, there is no 600"):
        store[600]
    again = pickle.loads(pickle.dumps(store))
    assert [one.id for one in again] == [one.id for one in store]
    # a view of the mapped file, not a copy
    assert not store[0].prompt_ids.flags.owndata
    assert not store[0].prompt_ids.flags.writeable


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "a.arrow").write_bytes(b"ARROW1 or not")
    with pytest.raises(DataError, match="cannot be opened as prepared data"):
        TokenStore(tmp_path / "a.arrow")
    with pytest.raises(DataError, match="cannot be opened as prepared data"):
        TokenStore(tmp_path / "b.arrow")


def test_no_prompt_stands_in_two_splits(read, many):
    prepared = read("preference", path=many)
    stores = (prepared.train, prepared.validation, prepared.test)
    prompts = [{store.text(i).prompt for i in range(len(store))} for store in stores]
    assert all(prompts)
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 400
    assert sum(map(len, stores)) == 600
    assert read.report()["splits"] == {
        "train": len(prepared.train), "validation": len(prepared.validation), "test": len(prepared.test),
    }  # fmt: skip


# The prompt has 6 tokens. Replies with their end of turn: 3 and 5; 3 and 8; 9 and 10.
LONG = [
    pair("abcdef", "12", "1234"),
    pair("abcdef", "12", "1234567"),
    pair("abcdef", "12345678", "123456789"),
]


def test_truncate_left_cuts_the_oldest_prompt_tokens_for_both_replies(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LONG)
    prepared = read("preference", path=path, max_length=10, **ALL_TRAIN)
    # 6 + 5 is 1 too many; 6 + 8 is 4 too many; a reply of 10 leaves no room for a prompt token
    assert [bytes(one.prompt_ids.tolist()) for one in prepared.train] == [b"bcdef", b"ef"]
    assert [bytes(one.rejected_ids[:-1].tolist()) for one in prepared.train] == [b"1234", b"1234567"]
    assert prepared.train.text(1).prompt[0].content == "abcdef"
    assert read.refusals() == [(3, "reply_too_long")]
    report = read.report()
    assert (report["truncated"], report["most_tokens_cut"]) == (2, 4)
    assert [(row["action"], row["line"]) for row in report["rows"]] == [
        ("truncated", 1), ("truncated", 2), ("refused", 3),
    ]  # fmt: skip
    assert "  cut 2 prompts from the left, by 4 tokens at most" in read.said
    # with one token more of room, the last pair keeps the last token of its prompt
    prepared = read("preference", path=path, max_length=11, **ALL_TRAIN)
    assert [bytes(one.prompt_ids.tolist()) for one in prepared.train] == [b"abcdef", b"def", b"f"]


def test_drop_leaves_long_ones_out_and_is_no_bad_row(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LONG[:2])
    prepared = read("preference", path=path, max_length=11, too_long="drop", bad_rows="error", **ALL_TRAIN)
    assert len(prepared.train) == 1
    assert read.refusals() == [(2, "too_long")]


def test_a_reply_that_leaves_no_room_is_a_bad_row(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LONG)
    with pytest.raises(DataError, match=r"a\.jsonl:3: reply_too_long: prompt 6 \+ reply 10 tokens"):
        read("preference", path=path, max_length=10, bad_rows="error", **ALL_TRAIN)


def test_too_long_error_stops_at_the_first(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LONG)
    with pytest.raises(DataError, match=r"a\.jsonl:2: too_long: .*max_length=11.*too_long=truncate_left"):
        read("preference", path=path, max_length=11, too_long="error", **ALL_TRAIN)


def no_tokens(*_):
    return np.zeros(0, dtype=np.int32)


def refuses(*_):
    raise ModelError("roles must alternate")


def deaf(*_):
    return np.ones(3, dtype=np.int32)


@pytest.mark.parametrize(
    ("method", "answer", "reason"),
    [
        ("prompt_ids", no_tokens, "no_prompt_tokens"),
        ("prompt_ids", refuses, "refused_by_template"),
        ("reply_ids", refuses, "refused_by_template"),
        ("reply_ids", no_tokens, "no_reply_tokens"),
        ("reply_ids", deaf, "same_tokens"),
    ],
)
def test_a_row_that_the_tokenizer_cannot_take_is_refused(method, answer, reason, tmp_path):
    chat = type("Chat", (ByteChat,), {method: answer})()
    dataset = settings("preference", path=write(tmp_path / "a.jsonl", LONG[:1]), **ALL_TRAIN)
    with pytest.raises(DataError, match=f"{reason} 1, first at"):
        prepare(dataset, chat, 100, tmp_path, "pairs", lambda _: None)


def test_pairs_give_each_chosen_reply_once_as_a_demonstration(read, tmp_path):
    rows = [pair("a", "good", "bad"), pair("a", "good", "worse"), pair("a", "fine", "bad")]
    prepared = read("preference", wants="demonstrations", path=write(tmp_path / "a.jsonl", rows), **ALL_TRAIN)
    assert [prepared.train.text(i).reply for i in range(2)] == ["good", "fine"]
    assert bytes(prepared.train[0].reply_ids[:-1].tolist()) == b"good"
    assert prepared.train.lengths.tolist() == [6, 6]
    assert read.refusals() == [(2, "repeated_demonstration")]


def test_a_pair_gives_one_desirable_reply_and_one_undesirable(read, tmp_path):
    rows = [pair("a", "good", "bad"), pair("a", "bad", "worse")]
    prepared = read("preference", wants="unpaired", path=write(tmp_path / "a.jsonl", rows), **ALL_TRAIN)
    found = [prepared.train.text(i) for i in range(4)]
    assert [(one.reply, one.desirable) for one in found] == [
        ("good", True),
        ("bad", False),
        ("bad", True),
        ("worse", False),
    ]
    assert [one.id.split(":")[1] for one in found] == ["chosen", "rejected"] * 2
    assert (bytes(prepared.train[0].reply_ids[:-1].tolist()), prepared.train[0].desirable) == (b"good", True)
    assert read.refusals() == []


LABELLED = [
    {"prompt": "a", "completion": "good", "label": True},
    {"prompt": "a", "completion": "bad", "label": False},
    {"prompt": "a", "completion": "good", "label": True},
    {"prompt": "a", "completion": "bad", "label": True},
    {"prompt": "b", "completion": "good", "label": True},
]


def test_labelled_replies_come_back_and_repeats_are_refused(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LABELLED)
    prepared = read("unpaired", wants="unpaired", path=path, **ALL_TRAIN)
    found = [(one.reply, one.desirable) for one in map(prepared.train.text, range(3))]
    assert found == [("good", True), ("bad", False), ("good", True)]
    assert [one.desirable for one in prepared.train] == [True, False, True]
    assert read.refusals() == [(3, "duplicate"), (4, "contradiction")]


def test_the_desirable_replies_are_demonstrations(read, tmp_path):
    path = write(tmp_path / "a.jsonl", LABELLED[:2] + LABELLED[4:])
    prepared = read("unpaired", wants="demonstrations", path=path, bad_rows="error", **ALL_TRAIN)
    assert [prepared.train.text(i).reply for i in range(2)] == ["good", "good"]
    assert read.refusals() == [(2, "not_desirable")]


def test_the_label_is_part_of_the_content(read, tmp_path):
    one = read("unpaired", wants="unpaired", path=write(tmp_path / "a.jsonl", LABELLED[:2]), **ALL_TRAIN)
    turned = [row | {"label": not row["label"]} for row in LABELLED[:2]]
    other = read("unpaired", wants="unpaired", path=write(tmp_path / "b.jsonl", turned), **ALL_TRAIN)
    assert one.fingerprint != other.fingerprint


def test_the_fingerprint_follows_the_content_only(read, tmp_path):
    rows = [pair("a", "good", "bad"), pair("b", "good", "bad")]
    one = read("preference", path=write(tmp_path / "a.jsonl", rows), **ALL_TRAIN).fingerprint
    assert len(one) == 64
    moved = read("preference", path=write(tmp_path / "b.json", rows), **ALL_TRAIN).fingerprint
    rows[1]["chosen"] = "good "
    changed = read("preference", path=write(tmp_path / "a.jsonl", rows), **ALL_TRAIN).fingerprint
    assert one == moved != changed


def test_nothing_to_train_on_is_an_error(read, tmp_path):
    path = write(tmp_path / "a.jsonl", [pair("a", "b", "c")])
    with pytest.raises(DataError, match="all of 1 rows fell to the test and validation splits"):
        read("preference", path=path, test_fraction=0.999, validation_fraction=0.0)


def test_texts_are_those_of_the_training_split(read, many):
    prepared = read("preference", path=many)
    found = list(texts(settings("preference", path=many)))
    expected = [prepared.train.text(i) for i in range(len(prepared.train))]
    assert found == [text for one in expected for text in (one.prompt[0].content, one.chosen, one.rejected)]


def test_prompts_are_the_first_distinct_ones_of_their_split(read, many, tmp_path):
    train = read("preference", path=many).train
    distinct = list(dict.fromkeys(train.text(i).prompt for i in range(len(train))))
    dataset = settings("preference", path=many)
    assert read_prompts(dataset, "train", tmp_path).prompts == distinct
    assert read_prompts(dataset, "train", tmp_path, limit=7).prompts == distinct[:7]
    assert read_prompts(dataset, "train", tmp_path, limit=9999).prompts == distinct


def test_records_are_numbered_and_named(many):
    dataset = settings("preference", path=many, limit=3)
    report = report_for(dataset)
    found = list(records(dataset, report))
    assert [record.location.line for record in found] == [1, 2, 3]
    assert len({record.id for record in found}) == 3
    assert all(len(record.id) == 16 for record in found)
    assert report.complete
    assert report.kept.total() == 3


def test_every_bad_row_is_listed_however_many(read, tmp_path):
    """30,000 refusals, 3 MB of list: more than is kept in memory."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(pair("a", "b", "c")) + "\n" + "{}\n" * 30_000)
    read("preference", path=str(path), **ALL_TRAIN)
    assert read.refusals() == [(line, "missing_key") for line in range(2, 30_002)]
    assert sum(map(len, read.said)) < 800


def test_what_a_row_says_about_itself_is_fit_for_a_terminal(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "\\ud800\\u001b[31m": 1}\n' + json.dumps({"k" * 5000: 1}) + "\n")
    with pytest.raises(DataError) as error:
        read("preference", path=str(path))
    message = str(error.value)
    message.encode()
    assert "\x1b" not in message
    assert "\\ud800\\x1b[31m" in message
    details = [row["detail"] for row in read.report()["rows"]]
    assert max(map(len, details)) < 420
