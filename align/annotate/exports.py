"""What an admin takes home: records, and the numbers of the overview."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from starlette.responses import Response, StreamingResponse

from align.annotate.consistency import Consistency
from align.annotate.desk import Desk
from align.annotate.report import Missing, Person
from align.annotate.snapshot import Kept, Reports
from align.annotate.types import LeftOut
from align.pairs.records import MANIFEST, RECORDS, to_line, write_records

FORMATS = {
    "records.zip": "the votes and their manifest: unpack it for dataset=records dataset.path=FOLDER",
    "records.jsonl": "the votes alone, one record a line",
    "records-with-checks.jsonl": "with gold items, attention checks, repeats and late answers, each marked",
    "statistics.json": "the numbers of these pages, with their intervals",
}
_CHUNK = 1 << 18


def export(name: str, desk: Desk, reports: Reports) -> Response | None:
    """A file of ``FORMATS`` as a download; None where there is none of this name.

    Records are first written aside, in one read of the database: a slow line at the other end then holds no
    old state of it.
    """
    if name == "records.zip":
        return _sent(name, lambda file: _zipped(desk, file), "application/zip")
    if name == "records.jsonl":
        return _sent(name, lambda file: file.writelines(map(to_line, desk.export())), "application/jsonl")
    if name == "records-with-checks.jsonl":
        return _sent(name, lambda file: file.writelines(map(to_line, desk.export(True))), "application/jsonl")
    if name == "statistics.json":
        text = json.dumps(statistics(reports.newest()), indent=2, ensure_ascii=False, allow_nan=False)
        return Response(text + "\n", media_type="application/json", headers=attached(name))
    return None


def attached(name: str) -> dict[str, str]:
    """Headers of a file that is saved, not shown."""
    return {"content-disposition": f'attachment; filename="{name}"'}


def statistics(kept: Kept) -> dict[str, Any]:
    """The overview and the table of annotators as plain values."""
    report = kept.report
    return {
        "made_at": kept.made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "version": kept.version,
        "status": asdict(report.status),
        "votes": dict(report.said),
        "results": [asdict(one) for one in report.results()],
        "undefined": {one.metric: one.reason for one in report.agreement if isinstance(one, Missing)},
        "ordinal_ranks": 2 * report.scale + 1,
        "seconds": report.times and asdict(report.times),
        "annotators": [_plain(person) for person in report.people],
    }


def left_out_in_words(left_out: LeftOut) -> str:
    """What the votes do not hold, in a sentence."""
    parts = [f"{count} {name}" for name, count in asdict(left_out).items() if count]
    return f"Left out of the votes: {', '.join(parts)}." if parts else "Nothing is left out of the votes."


def _plain(person: Person) -> dict[str, Any]:
    shown: Consistency | None = person.shown
    return {
        **asdict(person.status),
        **({} if shown is None else asdict(shown)),
        "flags": person.flags,
        "warnings": list(person.warnings),
    }


def _sent(name: str, write: Callable[[IO[bytes]], object], media_type: str) -> Response:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever has sent it
    write(file)
    file.seek(0)

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return StreamingResponse(chunks(), media_type=media_type, headers=attached(name))


def _zipped(desk: Desk, file: IO[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder), desk.export())
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in (RECORDS, MANIFEST):
                packed.write(Path(folder) / name, f"records/{name}")
