"""Rows of text files, one at a time: JSONL, JSON arrays, CSV and TSV, each plain or gzipped.

A line that cannot be parsed becomes a ``Row`` with a problem, and reading goes on with the next one.
Nothing here holds more than one row (and one buffer) in memory, whatever the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from align.errors import DataError
from align.types import Location, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

LONGEST_ROW = 1 << 26
"""Bytes of one row, at most: a file without line ends must not fill the memory."""

_CHUNK = 1 << 16
_OUTSIDE = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'["\\]')


class _BrokenFileError(Exception):
    """The compressed stream ends or breaks before line ``line``: no byte after it can be read."""

    def __init__(self, line: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.line = line
        self.problem = (reason, detail)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """One row a line. Blank lines are no rows; a byte-order mark is skipped."""
    try:
        for number, raw in _lines(path):
            location = Location(str(path), number)
            if len(raw) > LONGEST_ROW:
                yield Row(location, None, ("line_too_long", f"more than {LONGEST_ROW:,} bytes"))
            elif raw.strip():
                yield _json_row(location, raw, ended=raw.endswith(b"\n"))
    except _BrokenFileError as broken:
        yield Row(Location(str(path), broken.line), None, broken.problem)


def json_rows(path: Path) -> Iterator[Row]:
    """A ``.json`` file: one array of objects, or (as many are) JSONL under another name."""
    try:
        with _opened(path) as file:
            head = file.read(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        head = b""
    return _array_rows(path) if head.startswith(b"[") else jsonl_rows(path)


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[Row]:
    """One row a record, keyed by the header; a record's location is the line that it starts on.

    Raises:
        DataError: no header, or one that names a column twice or not at all.
    """
    # An unclosed quote swallows what follows: this is where the reader lets go and reads on.
    csv.field_size_limit(LONGEST_ROW)
    lines = (raw.decode("utf-8", "surrogateescape") for _, raw in _lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        location = Location(str(path), reader.line_num + 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(location, None, ("malformed_csv", str(error)))
            continue
        except _BrokenFileError as broken:
            yield Row(location, None, broken.problem)
            return
        if header is None:
            header = _header(cells, location)
        elif cells:
            yield _csv_row(header, cells, location)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unzipped where they begin as gzip does, whatever the name says."""
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not zipped:
                yield plain
                return
            with gzip.open(plain, "rb") as unzipped:
                yield unzipped  # type: ignore[misc]
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines by their 1-based number, ends kept; one above ``LONGEST_ROW`` comes cut to just over it."""
    number = 0
    with _opened(path) as file:
        try:
            while raw := file.readline(LONGEST_ROW + 1):
                number += 1
                rest = raw
                while len(rest) > LONGEST_ROW and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST_ROW + 1)
                yield number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        except EOFError:
            detail = "the gzip file ends early: this line and all after it are missing"
            raise _BrokenFileError(number + 1, "truncated_gzip", detail) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            detail = f"the gzip file is damaged ({error}): this line and all after it are lost"
            raise _BrokenFileError(number + 1, "damaged_gzip", detail) from None


def _json_row(location: Location, raw: bytes, *, ended: bool) -> Row:
    """``ended`` says whether the text is known to be whole (a line end follows)."""
    try:
        values = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        if ended or error.reason != "unexpected end of data":
            detail = f"byte {error.start + 1} is 0x{raw[error.start]:02x}"
            return Row(location, None, ("not_utf8", detail))
        return Row(location, None, ("truncated_line", "the file ends inside a character"))
    except (ValueError, RecursionError) as error:
        if ended:
            return Row(location, None, ("malformed_json", str(error)))
        return Row(location, None, ("truncated_line", f"the file ends without a line end: {error}"))
    if not isinstance(values, dict):
        return Row(location, None, ("not_an_object", f"a row is {{...}}, this is {_shown(values)}"))
    return Row(location, values)


def _array_rows(path: Path) -> Iterator[Row]:
    """Elements of one JSON array, cut at the commas between them: one bad element costs itself only."""
    name = str(path)
    element = bytearray()
    begun = line = 1
    depth, closed = 0, False
    try:
        with _opened(path) as file:
            for piece, mark in _pieces(file):
                line += piece.count(b"\n")
                element += piece
                if len(element) > LONGEST_ROW:
                    detail = f"more than {LONGEST_ROW:,} bytes; this row and all after it are lost"
                    yield Row(Location(name, begun), None, ("line_too_long", detail))
                    return
                if closed and (piece.strip() or mark):
                    detail = "text after the array's closing bracket"
                    yield Row(Location(name, line), None, ("malformed_json", detail))
                    return
                if depth == 0:
                    depth, begun = int(mark == b"["), line
                    element.clear()
                elif depth == 1 and mark in (b",", b"]"):
                    if element.strip() or mark == b",":
                        yield _json_row(_start(name, begun, element), bytes(element), ended=True)
                    element.clear()
                    begun, closed = line, mark == b"]"
                    depth -= closed
                else:
                    element += mark
                    depth += mark in (b"[", b"{")
                    depth -= mark in (b"]", b"}") and depth > 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield Row(Location(name, begun), None, ("truncated_gzip", f"nothing after here can be read: {error}"))
        return
    if not closed:
        detail = "the file ends before the array's closing bracket, inside the element that begins here"
        yield Row(_start(name, begun, element), None, ("truncated_array", detail))


def _pieces(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The text before each bracket and comma outside strings, with that mark; the rest with an empty one."""
    piece = bytearray()
    in_string, at = False, 0
    while chunk := file.read(_CHUNK):
        taken = 0
        while found := (_IN_STRING if in_string else _OUTSIDE).search(chunk, at):
            at = found.end()
            if found[0] == b"\\":
                at += 1  # what follows is escaped, the first byte of the next chunk perhaps
            elif found[0] == b'"':
                in_string = not in_string
            else:
                piece += chunk[taken : at - 1]
                yield bytes(piece), found[0]
                piece.clear()
                taken = at
        at = max(0, at - len(chunk))
        piece += chunk[taken:]
        if len(piece) > LONGEST_ROW:
            break
    yield bytes(piece), b""


def _start(name: str, begun: int, raw: bytes | bytearray) -> Location:
    """Where the first character that is no blank stands."""
    blank = raw[: len(raw) - len(raw.lstrip())]
    return Location(name, begun + blank.count(b"\n"))


def _header(cells: list[str], location: Location) -> list[str]:
    """The columns' names; the first may have none, as pandas writes the numbers of its rows."""
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    nameless = not any(cells) or "" in cells[1:]
    if nameless or twice:
        what = "has a column without a name" if nameless else f"names {', '.join(twice)} twice"
        raise DataError(f"{location}: the header of the table {what}: {','.join(cells)[:200]!r}")
    return cells


def _csv_row(header: list[str], cells: list[str], location: Location) -> Row:
    if len(cells) != len(header):
        detail = f"{len(cells)} fields under a header of {len(header)}"
        return Row(location, None, ("malformed_csv", detail))
    for name, cell in zip(header, cells, strict=True):
        # surrogateescape turned the bytes that are not UTF-8 into these
        wrong = re.search("[\udc80-\udcff]", cell)
        if wrong:
            return Row(location, None, ("not_utf8", f"{name} holds byte 0x{ord(wrong[0]) - 0xDC00:02x}"))
    return Row(location, dict(zip(header, cells, strict=True)))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
