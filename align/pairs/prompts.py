"""Prompts alone, for stages that sample replies themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from align.errors import EmptySplit
from align.pairs.read import examples, report_for
from align.pairs.split import Split
from align.pairs.store import prompt_json

if TYPE_CHECKING:
    from align.settings import DatasetSettings
    from align.types import Prompt


@dataclass(frozen=True)
class Prompts:
    """Distinct prompts of one split in the order of the data, and a SHA-256 over them."""

    prompts: list[Prompt]
    fingerprint: str


def read_prompts(
    dataset: DatasetSettings, split: Split, directory: Path, limit: int | None = None
) -> Prompts:
    """The first ``limit`` distinct prompts of a split; writes ``data_report.json`` as ``prepare`` does.

    Raises:
        EmptySplit: the split holds no prompt.
        DataError: a missing file; bad rows under ``bad_rows=error``.
    """
    report = report_for(dataset)
    found: dict[Prompt, None] = {}
    try:
        for where, text, _ in examples(dataset, report, dataset.source.offers):
            report.keep(where)
            if where == split and (limit is None or len(found) < limit):
                found.setdefault(text.prompt)
        report.finish()
    finally:
        report.write(directory / "data_report.json")
    if not found:
        raise EmptySplit(
            f"dataset {report.dataset}: the {split} split is empty; "
            f"raise dataset.{split}_fraction, or give more prompts"
        )
    prompts = list(found)
    digest = hashlib.sha256("\n".join(map(prompt_json, prompts)).encode())
    return Prompts(prompts, digest.hexdigest())
