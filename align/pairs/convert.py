"""A dataset -> one file in another format, its manifest, and a list of what that format has lost."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from tqdm import tqdm

from align import registry
from align.errors import BadRow
from align.files import write_json, written_aside
from align.pairs.check import Seen
from align.pairs.exports import FORMATS, LOSSES, Format
from align.pairs.read import examples_of_records, placed_records, report_for, source_name
from align.pairs.records import MANIFEST, RECORDS, write_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from align.pairs.report import DataReport
    from align.protocols import Source
    from align.settings import DatasetSettings
    from align.types import PreferenceRecord

OF_FILES = {
    "repeated": "a pair or reply of an earlier row, of which its reader keeps the first",
    "own_split": "the split that its data came with: one file holds training and test rows",
}
"""What a file as a whole loses, beside the ``LOSSES`` of single records."""


@dataclass(frozen=True)
class Converted:
    """What was written."""

    path: Path
    """The file, or the folder of records."""
    reader: str
    """The ``dataset=`` that reads it."""
    rows: int
    sha256: str
    lost: dict[str, int]
    """How many records held something that the format cannot hold, by the names of ``lost.json``."""


def convert(dataset: DatasetSettings, name: str, directory: Path) -> tuple[Converted, DataReport]:
    """Writes the dataset in a format, with ``manifest.json``, ``lost.json`` and ``data_report.json``.

    ``records`` loses nothing: a folder ``records/`` whose own export has the same bytes. The others are a
    file ``<name>.jsonl``. A record that a format cannot hold is refused with its place, as bad rows are.

    Raises:
        ConfigError: the dataset offers nothing that the format holds.
        DataError: a missing file; bad rows under ``bad_rows=error``; no row that can be written.
    """
    report = report_for(dataset)
    try:
        if name == "records":
            done = _write_records(dataset, directory / "records", report)
        else:
            done = _write_rows(dataset, FORMATS[name], directory / f"{name}.jsonl", report)
            _write_manifest(done, name, directory)
    finally:
        report.write(directory / "data_report.json")
    lost = {loss: {"records": count, "what": _what(loss)} for loss, count in done.lost.items()}
    refused = dict(report.refused.most_common())
    write_json(directory / "lost.json", {"format": name, "lost": lost, "refused": refused})
    return done, report


def lines(done: Converted, report: DataReport) -> Iterator[str]:
    """What was written and lost, for a person."""
    yield from report.summary()
    yield f"{done.rows:,} rows: {done.path} (read by dataset={done.reader})"
    if done.lost:
        yield "  not in this format:"
    for loss, count in done.lost.items():
        yield f"    {_what(loss)}: {count:,} records"


def _write_records(dataset: DatasetSettings, folder: Path, report: DataReport) -> Converted:
    rows = write_records(folder, _as_they_were(dataset, report))
    sha256 = json.loads((folder / MANIFEST).read_bytes())["files"][RECORDS]["sha256"]
    return Converted(folder, "records", rows, sha256, _own_split(dataset, rows))


def _as_they_were(dataset: DatasetSettings, report: DataReport) -> Iterator[PreferenceRecord]:
    """Records without the place that reading a file of records has given those that had none."""
    is_ours = source_name(dataset) == "records"
    found = placed_records(dataset, report)
    for record, at in tqdm(found, report.dataset, unit=" rows", delay=1, disable=None, leave=False):
        yield replace(record, location=None) if is_ours and record.location == at else record


def _write_rows(dataset: DatasetSettings, form: Format, path: Path, report: DataReport) -> Converted:
    """Each row is read back at once, as whoever reads the file will."""
    reader = cast("Source", registry.component("dataset", form.reader)(str(path)))
    seen, digest = Seen(), hashlib.sha256()
    lost: Counter[str] = Counter()
    rows = 0
    with written_aside(path) as file:
        found = examples_of_records(dataset, report, form.wants)
        bar = tqdm(found, report.dataset, unit=" rows", delay=1, disable=None, leave=False)
        for split, record, examples, at in bar:
            losses: set[str] = set()
            for example in examples:
                try:
                    values = form.row(example)
                    again = reader.record(values)
                except BadRow as bad:
                    report.refuse(at, bad.reason, bad.detail)
                    continue
                try:
                    seen.refuse_repeats(again, "", at)
                except BadRow:
                    losses.add("repeated")
                losses |= {name for name, loss in LOSSES.items() if loss.touches(record, example)}
                line = _line(values)
                digest.update(line)
                file.write(line)
                rows += 1
                report.keep(split)
            lost.update(losses - set(form.carries))
        report.finish()
    order = [*LOSSES, "repeated"]
    counts = {name: lost[name] for name in order if lost[name]} | _own_split(dataset, rows)
    return Converted(path, form.reader, rows, digest.hexdigest(), counts)


def _write_manifest(done: Converted, name: str, directory: Path) -> None:
    file = {"bytes": done.path.stat().st_size, "sha256": done.sha256}
    values = {"kind": "converted", "format": name, "rows": done.rows, "files": {done.path.name: file}}
    write_json(directory / MANIFEST, values)


def _what(loss: str) -> str:
    return OF_FILES.get(loss) or LOSSES[loss].what


def _own_split(dataset: DatasetSettings, rows: int) -> dict[str, int]:
    return {"own_split": rows} if getattr(dataset.source, "test_split", None) is not None else {}


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"
