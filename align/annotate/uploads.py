"""Items that an admin uploads: a file of records, or of candidate pairs that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from align.annotate.types import Kind
from align.errors import BadRow, Refused
from align.pairs.candidates import candidate_from
from align.pairs.files import read_rows
from align.pairs.records import record_from
from align.types import CandidatePair, PreferenceRecord, Row


def read_items(path: Path, kind: Kind) -> Iterator[PreferenceRecord | CandidatePair]:
    """The pairs of an uploaded file, lazily. A gold item or an attention check needs its judgement.

    Raises:
        Refused: ``bad_file``, at the first line that is none.
    """
    for row in read_rows(str(path)):
        try:
            yield _item(row, kind)
        except BadRow as bad:
            where = f"line {row.location.line}"
            raise Refused("bad_file", f"{where} is no record: {bad}; nothing was added") from bad


def _item(row: Row, kind: Kind) -> PreferenceRecord | CandidatePair:
    if row.values is None:
        reason, detail = row.problem or ("unreadable", "")
        raise BadRow(reason, detail)
    if row.values.get("preferred") is not None or row.values.get("judge") is not None:
        return record_from(row.values)
    if kind != "ordinary":
        raise BadRow("no_answer", f"an item of kind {kind} needs 'preferred', its right answer")
    return candidate_from(row.values)
