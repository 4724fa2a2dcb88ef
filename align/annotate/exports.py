"""What an admin takes home: records, and the numbers of the overview."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Literal

from starlette.responses import Response, StreamingResponse

from align import registry
from align.annotate.consistency import Consistency
from align.annotate.desk import Desk
from align.annotate.report import Missing, Person
from align.annotate.snapshot import Kept, Reports
from align.annotate.types import LeftOut
from align.errors import DataError, Refused
from align.pairs.convert import convert
from align.pairs.records import to_line, write_records
from align.settings import DatasetSettings

OWN = {
    "records.zip": "the votes and their manifest: unpack it for dataset=records dataset.path=FOLDER",
    "records.jsonl": "the votes alone, one record a line",
    "records-with-checks.jsonl": "with gold items, attention checks, repeats and late answers, each marked",
    "statistics.json": "the numbers of these pages, with their intervals",
}
"""Files that lose nothing: what ``stage=convert`` makes of them is made by ``converted``."""
_CHUNK = 1 << 18


def export(name: str, desk: Desk, reports: Reports) -> Response | None:
    """A file of ``OWN`` as a download; None where there is none of this name.

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


def converted(
    desk: Desk,
    form: str,
    votes: Literal["each", "majority", "reliable"],
    ties: Literal["drop", "half", "both"],
) -> Response:
    """What ``stage=convert`` writes of the votes in a format, zipped: the rows, and what they have lost.

    Raises:
        Refused: ``nothing_to_convert``.
    """

    def write(file: IO[bytes]) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder, out = Path(place) / "records", Path(place) / "out"
            write_records(folder, desk.export())
            source = registry.component("dataset", "records")(str(folder))
            dataset = DatasetSettings(source, votes=votes, ties=ties)
            try:
                convert(dataset, form, out)
            except DataError as error:
                raise Refused("nothing_to_convert", "no vote makes a row of this format yet") from error
            _pack(file, out, form)

    return _sent(f"{form}.zip", write, "application/zip")


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
    with tempfile.TemporaryDirectory() as place:
        write_records(Path(place), desk.export())
        _pack(file, Path(place), "records")


def _pack(file: IO[bytes], folder: Path, name: str) -> None:
    """The files of a folder, in one of that name."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, f"{name}/{path.name}")
