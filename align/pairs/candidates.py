"""Pairs that nobody has judged yet, on disk: ``candidates.jsonl`` and ``manifest.json``, written last.

A line is a record's line whose judgement is blank, so that whoever reads records by hand knows it already.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from align.errors import BadRow, DataError
from align.pairs.check import pair_id, prompt_id
from align.pairs.records import encoded, record_from, values_of, verify, write_lines
from align.types import CandidatePair, Judge, PreferenceRecord, Preferred

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

CANDIDATES = "candidates.jsonl"
KIND = "candidate_pairs"
JUDGEMENT = ("preferred", "judge", "margin", "strength", "guideline", "judged_at")
"""What a judgement fills in; null in a candidate's line."""


def judged(candidate: CandidatePair, preferred: Preferred, judge: Judge, **rest: Any) -> PreferenceRecord:
    """The record of a judgement of a candidate; ``rest`` are other fields of it."""
    made = PreferenceRecord(
        id="",
        prompt=candidate.prompt,
        replies=candidate.replies,
        preferred=preferred,
        judge=judge,
        method=candidate.method,
        prompt_id=candidate.prompt_id or prompt_id(candidate.prompt),
        asked_at=candidate.asked_at,
        template=candidate.template,
        details=candidate.details,
        location=candidate.location,
    )
    named = {"pair_id": candidate.pair_id or pair_id(made), **rest}
    return PreferenceRecord(**{**vars(made), **named})


def unjudged(record: PreferenceRecord) -> CandidatePair:
    """A record's pair without what was judged."""
    return CandidatePair(
        prompt=record.prompt,
        replies=record.replies,
        method=record.method,
        prompt_id=record.prompt_id or prompt_id(record.prompt),
        pair_id=record.pair_id or pair_id(record),
        asked_at=record.asked_at,
        template=record.template,
        details=record.details,
        location=record.location,
    )


def write_candidates(folder: Path, candidates: Iterable[CandidatePair]) -> int:
    """Writes candidates (streamed) and their manifest; returns how many.

    Raises:
        DataError: a candidate that JSON or UTF-8 cannot hold.
    """
    return write_lines(folder, CANDIDATES, KIND, map(candidate_line, candidates), dict)


def read_candidates(folder: Path) -> Iterator[CandidatePair]:
    """The candidates of a folder, as they were written.

    Raises:
        DataError: the folder is not whole, of another kind or version, or holds what is no candidate.
    """
    verify(folder, KIND, CANDIDATES)
    with (folder / CANDIDATES).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield candidate_from(json.loads(line))
            except (ValueError, BadRow) as error:
                raise DataError(f"{folder / CANDIDATES}:{number}: {error}") from error


_NOBODY = Judge("file", "nobody")


def candidate_line(candidate: CandidatePair) -> bytes:
    """One candidate as one line; equal ones give equal bytes."""
    return encoded({**values_of(judged(candidate, "tie", _NOBODY)), **dict.fromkeys(JUDGEMENT)})


def candidate_from(values: Mapping[str, Any]) -> CandidatePair:
    """The candidate that ``candidate_line`` wrote.

    Raises:
        BadRow: values that make none, or that hold a judgement.
    """
    if any(values.get(name) is not None for name in JUDGEMENT):
        raise BadRow("judged", "a record, and no candidate: read it with dataset=records")
    blank = {"kind": _NOBODY.kind, "name": _NOBODY.name}
    return unjudged(record_from({**values, "preferred": "tie", "judge": blank}))
