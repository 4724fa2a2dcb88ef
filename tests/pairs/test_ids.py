"""Ids of prompts, pairs and judgements: one text has one id, whoever judged it and in which order."""

from __future__ import annotations

from dataclasses import replace

from byte_chat import settings

from align.pairs.check import pair_id, prompt_id, record_id
from align.pairs.read import records, report_for
from align.pairs.records import write_records
from align.types import Judge, Message, PreferenceRecord, Reply

ONE = PreferenceRecord(
    id="",
    prompt=(Message("user", "Where?"),),
    replies=(Reply("Here."), Reply("There.")),
    preferred="first",
    judge=Judge("human", "ann"),
)
TURNED = replace(ONE, replies=(ONE.replies[1], ONE.replies[0]), preferred="second")


def test_a_pair_has_one_id_whichever_reply_stands_first():
    assert pair_id(ONE) == pair_id(TURNED)
    assert record_id(ONE) != record_id(TURNED)


def test_a_pair_is_another_under_another_prompt_or_reply():
    asked = replace(ONE, prompt=(Message("user", "When?"),))
    said = replace(ONE, replies=(Reply("Here."), Reply("Nowhere.")))
    assert len({pair_id(ONE), pair_id(asked), pair_id(said)}) == 3
    assert prompt_id(ONE.prompt) == prompt_id(said.prompt) != prompt_id(asked.prompt)


def test_a_reader_names_what_has_no_ids_and_keeps_those_that_are_there(tmp_path):
    write_records(
        tmp_path, [ONE, replace(TURNED, prompt=(Message("user", "When?"),), pair_id="own", id="mine")]
    )
    dataset = settings("records", path=str(tmp_path))
    first, second = records(dataset, report_for(dataset))
    assert (first.id, first.pair_id, first.prompt_id) == (record_id(ONE), pair_id(ONE), prompt_id(ONE.prompt))
    assert (second.id, second.pair_id) == ("mine", "own")
    assert second.prompt_id == prompt_id(second.prompt)
