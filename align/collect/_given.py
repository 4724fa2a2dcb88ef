"""What a dataset gives a collecting method to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from align.collect._bench import Candidates
from align.errors import EmptySplit
from align.pairs.candidates import NOBODY
from align.pairs.prompts import read_prompts
from align.pairs.read import examples_of_records, report_for, split_records
from align.pairs.store import prompt_json
from align.protocols import HoldsCandidates
from align.types import Demonstration, PreferenceRecord, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from align.pairs.report import DataReport
    from align.settings import CollectionSettings, DatasetSettings


@dataclass(frozen=True)
class Given:
    """What there is to work on, in the order of the data, and a SHA-256 over it."""

    items: list[Candidates]
    fingerprint: str


def read_given(
    dataset: DatasetSettings,
    starts_from: Literal["prompts", "demonstrations", "pairs"],
    settings: CollectionSettings,
    directory: Path,
    *,
    whole: bool = False,
) -> Given:
    """The first ``limit`` prompts, demonstrations or pairs of a split; writes ``data_report.json``.

    ``whole``: demonstrations or pairs of all splits.

    Raises:
        ConfigError: pairs are asked for, and the dataset has demonstrations.
        EmptySplit: the split holds nothing.
        DataError: a missing file; bad rows under ``bad_rows=error``.
    """
    if starts_from == "prompts":
        found = read_prompts(dataset, settings.split, directory, settings.limit)
        return Given([Candidates(prompt) for prompt in found.prompts], found.fingerprint)
    report = report_for(dataset)
    try:
        read = _pairs if starts_from == "pairs" else _demonstrations
        items = _first(read(dataset, report, None if whole else settings.split), settings.limit)
        report.finish()
    finally:
        report.write(directory / "data_report.json")
    if not items:
        raise EmptySplit(
            f"dataset {report.dataset}: the {settings.split} split is empty; "
            f"raise dataset.{settings.split}_fraction, or give more data"
        )
    digest = hashlib.sha256("\n".join(map(content, items)).encode("utf-8", "surrogatepass"))
    return Given(items, digest.hexdigest())


def content(item: Candidates) -> str:
    """Prompt and replies as one text; two that differ give two texts."""
    replies = [f"{len(reply.text)}:{reply.text}" for reply in item.replies]
    return "\0".join([prompt_json(item.prompt), *replies, item.record.preferred if item.record else ""])


def _pairs(dataset: DatasetSettings, report: DataReport, split: str | None) -> Iterator[Candidates]:
    """Pairs that nobody has judged, which records' files may hold, have no record."""
    source = dataset.source
    if isinstance(source, HoldsCandidates):
        dataset = replace(dataset, source=source.with_candidates())
    for where, record, _ in split_records(dataset, report):
        report.keep(where)
        if split in (None, where):
            yield Candidates(record.prompt, record.replies, None if record.judge == NOBODY else record)


def _demonstrations(dataset: DatasetSettings, report: DataReport, split: str | None) -> Iterator[Candidates]:
    """Of a pair the reply as its record has it: who wrote it, how and with which seed."""
    for where, record, found, _ in examples_of_records(dataset, report, "demonstrations"):
        replies = record.replies if isinstance(record, PreferenceRecord) else ()
        for example in found:
            assert isinstance(example, Demonstration), "what was asked for"
            report.keep(where)
            if split in (None, where):
                known = (one for one in replies if one.text == example.reply)
                yield Candidates(example.prompt, (next(known, Reply(example.reply)),))


def _first(items: Iterable[Candidates], limit: int | None) -> list[Candidates]:
    """The first ones; the rest is read, too, so that the report counts all rows."""
    iterator = iter(items)
    kept = list(islice(iterator, limit))
    for _ in iterator:
        pass
    return kept
