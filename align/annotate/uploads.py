"""Items that an admin uploads: a file of records, or of candidate pairs that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from align.annotate.types import Kind
from align.errors import BadRow, Refused
from align.pairs.files import read_rows
from align.pairs.records import record_from
from align.types import PreferenceRecord, Row

NOBODY = {"kind": "file", "name": "nobody"}
"""Who judged a candidate pair."""


def read_items(path: Path, kind: Kind) -> Iterator[PreferenceRecord]:
    """The records of an uploaded file, lazily.

    A candidate's judgement is blank; as nothing of an ordinary item's judgement is used, it is filled in with
    a tie of nobody's. A gold item or an attention check needs one.

    Raises:
        Refused: ``bad_file``, at the first line that is none.
    """
    for row in read_rows(str(path)):
        try:
            yield _item(row, kind)
        except BadRow as bad:
            where = f"line {row.location.line}"
            raise Refused("bad_file", f"{where} is no record: {bad}; nothing was added") from bad


def _item(row: Row, kind: Kind) -> PreferenceRecord:
    if row.values is None:
        reason, detail = row.problem or ("unreadable", "")
        raise BadRow(reason, detail)
    values: Mapping[str, Any] = row.values
    if values.get("preferred") is None and values.get("judge") is None:
        if kind != "ordinary":
            raise BadRow("no_answer", f"an item of kind {kind} needs 'preferred', its right answer")
        values = {**values, "preferred": "tie", "judge": NOBODY}
    return record_from(values)
