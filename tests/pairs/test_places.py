"""Where rows can come from: every kind of file gives the same rows, and what is not there is one line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from align.errors import DataError
from align.pairs.files import read_rows

ROWS = [
    {"prompt": "Où?", "chosen": "Ici, \"là\".", "rejected": "line one\nline two"},
    {"prompt": "数?", "chosen": "1", "rejected": " two"},
    {"prompt": "[{,", "chosen": "\\", "rejected": "\u2028"},
]  # fmt: skip


def jsonl(path):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))


def zipped(path):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))


def array(path):
    path.write_text(json.dumps(ROWS, indent=1))


def table(path):
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)


def parquet(path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", jsonl), ("a.jsonl.gz", zipped), ("a.json", array), ("a.csv", table), ("a.parquet", parquet)],
)
def test_every_kind_of_file_gives_the_same_rows(name, write, tmp_path):
    path = tmp_path / name
    write(path)
    rows = list(read_rows(str(path)))
    assert [row.values for row in rows] == ROWS
    assert {row.location.path for row in rows} == {str(path)}
    lines = [row.location.line for row in rows]
    # json.dumps(indent=1) gives each row a line for "{", three keys and "}"; in the table, the first row
    # takes two lines below the header, for the line end in its text
    assert lines == {"a.json": [2, 7, 12], "a.csv": [2, 4, 5]}.get(name, [1, 2, 3])


@pytest.mark.medium
def test_a_saved_datasets_folder_is_read_by_split(tmp_path):
    import datasets

    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "two")

    assert [row.values for row in read_rows(str(tmp_path / "one"))] == ROWS
    rows = list(read_rows(str(tmp_path / "two"), split="train", test_split="test"))
    assert [(row.split, row.values) for row in rows] == [
        ("test", ROWS[1]),
        *(("train", row) for row in ROWS),
    ]
    assert str(rows[0].location) == f"{tmp_path}/two[test]:1"
    with pytest.raises(DataError, match=r"has no split 'tran'\. Did you mean 'train'\? It has: train, test"):
        list(read_rows(str(tmp_path / "two"), split="tran"))

    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(DataError, match="is not a whole datasets folder"):
        list(read_rows(str(tmp_path / "one")))


def test_a_folder_with_a_file_a_split(tmp_path):
    jsonl(tmp_path / "train.jsonl")
    zipped(tmp_path / "test.jsonl.gz")
    (tmp_path / "README.md").write_text("about")
    assert [row.split for row in read_rows(str(tmp_path))] == [None] * 3
    rows = list(read_rows(str(tmp_path), test_split="test"))
    assert [row.split for row in rows] == ["test"] * 3 + ["train"] * 3
    with pytest.raises(DataError, match=r"has no split 'val'\. It has: test, train"):
        list(read_rows(str(tmp_path), split="val"))


def test_a_prompt_in_both_given_splits_stays_in_the_test_set_only(read, tmp_path):
    def row(prompt, chosen):
        return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": "x"}) + "\n"

    (tmp_path / "train.jsonl").write_text(row("a", "1") + row("b", "1") + row("b", "2") + row("c", "1"))
    (tmp_path / "test.jsonl").write_text(row("b", "3") + row("d", "1") + row("d", "2"))
    prepared = read("preference", path=str(tmp_path), test_split="test", validation_fraction=0.0)
    assert read.refusals() == [(2, "prompt_in_both_splits"), (3, "prompt_in_both_splits")]
    assert read.report()["rows"][0]["detail"].endswith(f"at {tmp_path}/test.jsonl:1")
    assert read.report()["splits"] == {"train": 2, "validation": 0, "test": 3}
    assert [prepared.test.text(i).chosen for i in range(3)] == ["3", "1", "2"]
    # the limit holds for each split
    read("preference", path=str(tmp_path), test_split="test", validation_fraction=0.0, limit=1)
    assert read.report()["splits"] == {"train": 1, "validation": 0, "test": 1}


def test_parquet_rows_that_are_not_utf8_are_named(tmp_path):
    raw = pyarrow.array([b"fine", b"O\xf9", b"fine too"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"chosen": text}), path)
    rows = list(read_rows(str(path)))
    assert [row.values for row in rows] == [{"chosen": "fine"}, None, {"chosen": "fine too"}]
    assert rows[1].problem == ("not_utf8", "byte 2 of a text is 0xf9")
    assert rows[1].location.line == 2


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.parquet", b"PAR1 and no end", "is not a whole Parquet file"),
        ("a.txt", b"text", r"a\.txt is of no kind that is read: it should end with \.jsonl"),
        ("a.csv", b"chosen,chosen\n1,2\n", "the header of the table names chosen twice"),
        ("a.csv", b"chosen,\n1,2\n", "has a column without a name"),
        ("a.csv", b",chosen,\n0,1,2\n", "has a column without a name"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_one_line(name, data, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        list(read_rows(str(path)))
    assert "\n" not in str(error.value)


def test_a_parquet_file_with_a_damaged_page_gives_the_rows_before_it(tmp_path):
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"chosen": [f"text {i * 7919}" for i in range(2000)]})
    pyarrow.parquet.write_table(table, path, row_group_size=500, use_dictionary=False)
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(2).column(0)
    data = bytearray(path.read_bytes())
    data[group.data_page_offset : group.data_page_offset + 60] = bytes(60)
    path.write_bytes(data)
    *rows, last = read_rows(str(path))
    # whole batches of 64 rows come out before the third group of 500 is opened
    assert 1000 - 64 <= len(rows) <= 1000
    assert last.location.line == len(rows) + 1
    assert last.problem[0] == "damaged_parquet"


def test_a_missing_file_names_the_near_one(tmp_path):
    jsonl(tmp_path / "pairs.jsonl")
    with pytest.raises(
        DataError, match=r"no file or folder '.*pears\.jsonl'\. Did you mean '.*pairs\.jsonl'"
    ):
        list(read_rows(str(tmp_path / "pears.jsonl")))
    with pytest.raises(DataError, match=r"There is no folder '.*/nowhere' either"):
        list(read_rows(str(tmp_path / "nowhere" / "pairs.jsonl")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data"):
        list(read_rows(str(tmp_path / "empty")))
    with pytest.raises(DataError, match="is one file, it has no split 'test'"):
        list(read_rows(str(tmp_path / "pairs.jsonl"), test_split="test"))


@pytest.mark.medium
def test_a_hub_name_without_a_network_is_one_line():
    script = (
        "from align.errors import DataError\n"
        "from align.pairs.files import read_rows\n"
        "try:\n    next(read_rows('somebody/no-such-dataset'))\n"
        "except DataError as error:\n    print(error)\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.startswith("no file or folder 'somebody/no-such-dataset' here, and as a name on the")
    assert done.stdout.count("\n") == 1


@pytest.mark.medium
def test_a_hub_name_is_streamed_by_split(monkeypatch):
    import datasets

    def loaded(name, streaming):
        assert (name, streaming) == ("somebody/pairs", True)
        return {"train": iter(ROWS), "test": iter(ROWS[:1])}

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    rows = list(read_rows("somebody/pairs", test_split="test"))
    assert [row.split for row in rows] == ["test", "train", "train", "train"]
    assert str(rows[-1].location) == "somebody/pairs[train]:3"
    with pytest.raises(DataError, match=r"somebody/pairs has no split 'tests'\. Did you mean 'test'\?"):
        list(read_rows("somebody/pairs", split="tests"))


MEASURE = """
import resource, sys
from align.pairs.files import read_rows
if sys.argv[1].endswith("parquet"):
    import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(row.problem is None for row in read_rows(sys.argv[1]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(rows, (after - before) // 1024)
"""


@pytest.mark.medium
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(ending, tmp_path):
    """60,000 rows of 2 KB, 120 MB of text: read with less than 40 MB above what Python had before."""
    path = tmp_path / f"large.{ending}"
    count, text = 60_000, "word " * 400
    if ending == "parquet":
        schema = pyarrow.schema([("chosen", pyarrow.string())])
        with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
            for start in range(0, count, 10_000):
                texts = [f"{i} {text}" for i in range(start, start + 10_000)]
                writer.write_batch(pyarrow.record_batch([texts], schema=schema))
    else:
        opened = gzip.open if ending.endswith("gz") else open
        head, end, tail = {"json": ("[", ",\n", "{}]"), "csv": ("n,chosen\n", "\n", "")}.get(
            ending, ("", "\n", "")
        )
        with opened(path, "wt") as file:
            file.write(head)
            for i in range(count):
                file.write(
                    f"{i},{text}" if ending == "csv" else json.dumps({"n": i, "chosen": text})
                )  # fmt: skip
                file.write(end)
            file.write(tail)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    assert rows == count + (ending == "json")
    assert grown < 40
