"""The 1,900 human pairs of HH's harmless-base: which rows make no pair, and that prompts stay apart."""

from __future__ import annotations

import json
import re

import pytest

from align.config import build
from align.pairs.read import examples, records, report_for
from align.settings import DatasetSettings

pytestmark = pytest.mark.realdata


@pytest.fixture
def dataset(shared_data):
    path = shared_data / "hh-rlhf" / "harmless-base.jsonl.gz"
    return build(DatasetSettings, {"name": "hh_rlhf", "path": str(path)}, "dataset")


def test_four_rows_make_no_pair(dataset, tmp_path):
    """1160 and 1204 have a chosen reply of a space; 1223 and 1691 part before the last assistant turn."""
    report = report_for(dataset)
    kept = list(records(dataset, report))
    assert len(kept) == 1896
    report.write(tmp_path / "data_report.json")
    written = json.loads((tmp_path / "data_report.json").read_text())
    assert written["read"] == 1900
    assert [(row["line"], row["reason"]) for row in written["rows"]] == [
        (1160, "empty_reply"),
        (1204, "empty_reply"),
        (1223, "prompts_differ"),
        (1691, "prompts_differ"),
    ]


def test_the_records_hold_what_the_file_says(dataset):
    """The transcript is put together again from each record, but for the whitespace around its turns."""
    names = {"user": "Human", "assistant": "Assistant"}
    rows = {row.location.line: row.values for row in dataset.source.rows()}
    for record in records(dataset, report_for(dataset)):
        pair = record.pair()
        assert pair is not None
        start = "".join(f"{names[message.role]}: {message.content}" for message in pair.prompt)
        for key, reply in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            ours = f"{start}Assistant: {reply}"
            theirs = rows[record.location.line][key]
            assert _bare(ours) == _bare(_without_repeated_speakers(theirs))


def test_no_prompt_is_in_both_train_and_test(dataset):
    prompts: dict[str, set[object]] = {"train": set(), "validation": set(), "test": set()}
    report = report_for(dataset)
    for split, pair, _ in examples(dataset, report, "pairs"):
        prompts[split].add(pair.prompt)
    sizes = {split: len(found) for split, found in prompts.items()}
    assert sum(sizes.values()) == len(set().union(*prompts.values()))
    # 10 % and 5 % of the 1,896 prompts, within four standard deviations (13 and 9.5)
    assert 138 <= sizes["test"] <= 242
    assert 57 <= sizes["validation"] <= 133


def _bare(text):
    return "".join(text.split())


def _without_repeated_speakers(transcript):
    """``Assistant: a Assistant: b`` reads ``Assistant: a b`` in a record."""
    parts = re.split(r"\n\n(Human|Assistant):", transcript)[1:]
    text, last = "", ""
    for speaker, turn in zip(parts[::2], parts[1::2], strict=True):
        text += turn if speaker == last else f"{speaker}:{turn}"
        last = speaker
    return text
