"""Every way in which a row can be bad: refused with file, line and reason, and the rest is read."""

from __future__ import annotations

import gzip
import json

import pytest

from align.errors import ConfigError, DataError

GOOD = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
OTHER = {"prompt": "How?", "chosen": "Slowly.", "rejected": "Never."}
TURNS = {
    "chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
    "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}],
}


def line(values=GOOD, **changes):
    return json.dumps({**values, **changes}).encode() + b"\n"


def without(key):
    return json.dumps({name: value for name, value in GOOD.items() if name != key}).encode() + b"\n"


# What stands between a good first row and a good last one, and why it is refused.
ROWS = {
    "malformed": (b'{"prompt": "a", \n', "malformed_json"),
    "two objects on a line": (line().strip() + line(OTHER), "malformed_json"),
    "very deep": (b"[" * 100_000 + b"\n", "malformed_json"),
    "not an object": (b'["Why?", "Because.", "No."]\n', "not_an_object"),
    "latin-1": ('{"prompt": "Où?", "chosen": "a", "rejected": "b"}\n'.encode("latin-1"), "not_utf8"),
    "half a surrogate pair": (b'{"prompt": "a\\ud800", "chosen": "a", "rejected": "b"}\n', "not_unicode"),
    "half a pair in a reply": (b'{"prompt": "a", "chosen": "\\udc00", "rejected": "b"}\n', "not_unicode"),
    "missing chosen": (without("chosen"), "missing_key"),
    "missing rejected": (without("rejected"), "missing_key"),
    "null": (line(rejected=None), "null"),
    "null prompt": (line(prompt=None), "null"),
    "number": (line(rejected=7), "not_text"),
    "number first": (line(chosen=7), "not_text"),
    "true": (line(prompt=True), "not_text"),
    "empty reply": (line(chosen=""), "empty_reply"),
    "whitespace reply": (line(rejected=" \n\t\u00a0"), "empty_reply"),
    "empty prompt": (line(prompt=""), "empty_prompt"),
    "whitespace prompt": (line(prompt="  "), "empty_prompt"),
    "nothing in common": (line({"chosen": "a", "rejected": "b"}), "empty_prompt"),
    "chosen equals rejected": (line(chosen="No."), "same_replies"),
    "duplicate": (line(), "duplicate"),
    "duplicate, other spacing": (json.dumps(GOOD, separators=(",", ":")).encode() + b"\n", "duplicate"),
    "both labels": (line(chosen="No.", rejected="Because."), "contradiction"),
    "margin is text": (line(OTHER, chosen="x", margin="large"), "not_a_number"),
    "margin is NaN": (b'{"prompt": "a", "chosen": "b", "rejected": "c", "margin": NaN}\n', "not_a_number"),
    "margin is null": (line(margin=None, prompt="x"), "null"),
    "rated the other way": (line(prompt="x", score_chosen=3, score_rejected=5), "negative_margin"),
    "one score": (line(prompt="x", score_chosen=3), "missing_key"),
    "empty conversation": (line(TURNS, chosen=[]), "no_reply"),
    "ends with the user": (line(TURNS, chosen=TURNS["chosen"][:1]), "no_reply"),
    "conversations part early": (
        line(TURNS, rejected=[{"role": "user", "content": "Who?"}, TURNS["rejected"][1]]),
        "prompts_differ",
    ),
    "text beside messages": (line(TURNS, rejected="No."), "not_messages"),
    "messages without role": (line(TURNS, chosen=[{"content": "a"}]), "not_messages"),
    "unknown role": (line(TURNS, chosen=[{"role": "tool", "content": "a"}]), "unknown_role"),
    "message is null": (line(TURNS, chosen=[{"role": "user", "content": None}]), "null"),
    "message is a picture": (line(TURNS, chosen=[{"role": "user", "content": [{}]}]), "not_text"),
    "prompt text, replies messages": (line(TURNS, prompt="Why?"), "mixed_formats"),
    "prompt ends with a reply": (
        line(
            prompt=[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Well,"}],
            chosen=TURNS["chosen"][1:],
            rejected=TURNS["rejected"][1:],
        ),
        "prompt_ends_with_reply",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("zipped", [False, True], ids=["jsonl", "gz"])
def test_a_bad_row_is_named_and_the_others_are_read(row, reason, zipped, read, tmp_path):
    data = line() + b"\n" + row + line(OTHER)  # the blank line is no row, and counts as a line
    path = tmp_path / ("pairs.jsonl.gz" if zipped else "pairs.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)

    prepared = read("preference", path=str(path), test_fraction=0.0, validation_fraction=0.0)

    assert read.refusals() == [(3, reason)]
    assert read.report()["rows"][0]["path"] == str(path)
    assert read.report()["refused"] == {reason: 1}
    assert [prepared.train.text(i).location.line for i in range(len(prepared.train))] == [1, 4]
    assert any(f"{reason} 1, first at {path}:3" in said for said in read.said)


@pytest.mark.parametrize(("row", "reason"), ROWS.values(), ids=ROWS)
def test_bad_rows_error_stops_and_says_what_to_type(row, reason, read, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(line() + row + line(OTHER))
    with pytest.raises(DataError) as stop:
        read("preference", path=str(path), bad_rows="error")
    assert f"{path}:2: {reason}" in str(stop.value)
    assert "dataset.bad_rows=drop" in str(stop.value)
    assert read.refusals() == [(2, reason)]


# Whole files: name, bytes, the refusals (line, reason), the lines that are kept.
FILES = {
    "truncated last line": ("a.jsonl", line() + line(OTHER)[:-9], [(2, "truncated_line")], [1]),
    "cut inside a character": (
        "a.jsonl", line() + b'{"prompt": "\xc3', [(2, "truncated_line")], [1],
    ),
    "whole last line without a line end": ("a.jsonl", line() + line(OTHER).rstrip(), [], [1, 2]),
    "byte-order mark and carriage returns": (
        "a.jsonl", b"\xef\xbb\xbf" + line().replace(b"\n", b"\r\n") + line(OTHER), [], [1, 2],
    ),
    "json array": (
        "a.json", b'[\n' + line() + b",\n" + line(OTHER) + b"]\n", [], [2, 4],
    ),
    "json array on one line": ("a.json", json.dumps([GOOD, OTHER]).encode(), [], [1, 1]),
    "json array, one bad element": (
        "a.json", b'[' + line() + b',{"prompt": nothing},\n\n 7,' + line(OTHER) + b']',
        [(2, "malformed_json"), (4, "not_an_object")], [1, 4],
    ),
    "json array, brackets in text": (
        "a.json", json.dumps([GOOD | {"chosen": '],[{}" \\'}, OTHER]).encode(), [], [1, 1],
    ),
    "json array, cut": (
        "a.json", json.dumps([GOOD, OTHER]).encode()[:-30], [(1, "truncated_array")], [1],
    ),
    "json array, text after it": (
        "a.json", json.dumps([GOOD]).encode() + b"\n{}", [(2, "malformed_json")], [1],
    ),
    "json that is jsonl": ("a.json", line() + b"{\n" + line(OTHER), [(2, "malformed_json")], [1, 3]),
    "csv": ("a.csv", b"prompt,chosen,rejected\nWhy?,So.,No.\nHow?,So.,No.\n", [], [2, 3]),
    "tsv": ("a.tsv", b"prompt\tchosen\trejected\nWhy?\tSo, so.\tNo.\n", [], [2]),
    "csv, text over lines": (
        "a.csv", b'prompt,chosen,rejected\n"Why\nso?",So.,No.\n\nHow?,,No.\nWho?,I.,You.\n',
        [(5, "empty_reply")], [2, 6],
    ),
    "csv, ragged": (
        "a.csv", b"prompt,chosen,rejected\nWhy?,So.\nHow?,So.,No.,x\nWho?,I.,You.\n",
        [(2, "malformed_csv"), (3, "malformed_csv")], [4],
    ),
    "csv, latin-1": (
        "a.csv", b"prompt,chosen,rejected\nO\xf9?,So.,No.\nWho?,I.,You.\n", [(2, "not_utf8")], [3],
    ),
    "csv, stray quote": (
        "a.csv", b'prompt,chosen,rejected\n"Why"?,So.,No.\nWho?,I.,You.\n', [(2, "malformed_csv")], [3],
    ),
    "csv, open quote": (
        "a.csv", b'prompt,chosen,rejected\nWho?,I.,You.\n"Why?,So.,No.\n', [(3, "malformed_csv")], [2],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "refused", "kept"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_a_damaged_file_is_read_as_far_as_it_goes(name, data, refused, kept, zipped, read, tmp_path):
    path = tmp_path / (name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(data) if zipped else data)
    prepared = read("preference", path=str(path), test_fraction=0.0, validation_fraction=0.0)
    assert read.refusals() == refused
    assert [prepared.train.text(i).location.line for i in range(len(prepared.train))] == kept


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_truncated_gzip_gives_the_rows_before_the_cut(name, read, tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i * 7919}", "rejected": f"no {i}"} for i in range(5000)]
    if "csv" in name:
        data = "prompt,chosen,rejected\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    elif "jsonl" in name:
        data = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        data = "[" + ",\n".join(json.dumps(row) for row in rows) + "]"
    path = tmp_path / name
    whole = gzip.compress(data.encode())
    path.write_bytes(whole[: len(whole) // 2])

    prepared = read("preference", path=str(path), test_fraction=0.0, validation_fraction=0.0)

    kept = len(prepared.train)
    assert 1000 < kept < 4000
    # the first line that is missing, below the kept ones and the header of a table; in an array, the
    # line on which the last whole element ended
    first_missing = {"a.jsonl.gz": kept + 1, "a.csv.gz": kept + 2, "a.json.gz": kept}[name]
    assert read.refusals() == [(first_missing, "truncated_gzip")]


def test_a_gzip_with_a_damaged_middle_gives_the_rows_before_it(read, tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i * 7919}", "rejected": f"no {i}"} for i in range(5000)]
    data = bytearray(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data)
    read("preference", path=str(path))
    assert read.refusals()[-1][1] == "damaged_gzip"


def test_a_line_that_is_too_long_is_skipped(read, tmp_path, monkeypatch):
    monkeypatch.setattr("align.pairs.textfiles.LONGEST_ROW", 200)
    path = tmp_path / "a.jsonl"
    path.write_bytes(line() + line(chosen="x" * 900) + line(OTHER))
    prepared = read("preference", path=str(path), test_fraction=0.0, validation_fraction=0.0)
    assert read.refusals() == [(2, "line_too_long")]
    assert [prepared.train.text(i).location.line for i in range(2)] == [1, 3]


def test_a_repeated_id_under_another_text_is_refused(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(id="x") + line(OTHER, id="x") + line(OTHER, id=7))
    prepared = read("preference", path=str(path), test_fraction=0.0, validation_fraction=0.0)
    assert read.refusals() == [(2, "repeated_id")]
    assert [pair.id for pair in prepared.train] == ["x", "7"]


def test_a_few_bad_rows_are_enough_to_stop(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line() + b"x\n" * 100)
    with pytest.raises(DataError, match="at least 5 bad rows") as stop:
        read("preference", path=str(path), bad_rows="error")
    assert [f"{path}:{n}: malformed_json" in str(stop.value) for n in range(2, 8)] == [True] * 5 + [False]
    assert read.report()["complete"] is False


def test_a_dataset_of_bad_rows_only_says_why(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(chosen=1) + b"x\n")
    with pytest.raises(DataError, match="none of 2 rows can be used") as stop:
        read("preference", path=str(path))
    assert f"not_text 1, first at {path}:1" in str(stop.value)
    assert f"malformed_json 1, first at {path}:2" in str(stop.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(data, read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError, match="has no rows"):
        read("preference", path=str(path))


def test_a_missing_key_names_the_near_one(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"prompt": "a", "choosen": "b", "rejected": "c"}).encode())
    with pytest.raises(DataError, match=r"no 'chosen'\. Did you mean 'choosen'"):
        read("preference", path=str(path))


def test_pairs_are_not_made_of_demonstrations(read, tmp_path):
    with pytest.raises(ConfigError, match=r"Datasets that offer pairs: .*hh_rlhf.*preference"):
        read("demonstrations", path=str(tmp_path / "a.jsonl"))


def test_labelled_replies_are_made_of_labels_or_pairs_only(read, tmp_path):
    with pytest.raises(ConfigError, match=r"offers demonstrations, and this stage needs labelled replies or"):
        read("demonstrations", wants="unpaired", path=str(tmp_path / "a.jsonl"))
    with pytest.raises(ConfigError, match=r"offers labelled replies, and this stage needs preference pairs"):
        read("unpaired", path=str(tmp_path / "a.jsonl"))
