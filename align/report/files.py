"""The files of a run that reports are made from: results.json, samples.jsonl, metrics.jsonl."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from align.distributed.world import world
from align.errors import DataError, NonFiniteError
from align.files import written_aside
from align.types import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_FIELDS = [field.name for field in fields(Result)]


def write_results(path: Path, results: Sequence[Result]) -> None:
    """``results.json``: a list of {metric, value, n, ci_low, ci_high, method}, whole or absent.

    Raises:
        NonFiniteError: a value or bound is NaN or infinite (JSON has no such number).
        DataError: two results share a metric's name.
    """
    names = [result.metric for result in results]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: more than one result is called {', '.join(twice)}")
    for result in results:
        numbers = (result.value, result.ci_low, result.ci_high)
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise NonFiniteError(f"{path}: {result.metric} is not finite: {result}")
    text = json.dumps([asdict(result) for result in results], indent=2, allow_nan=False)
    with written_aside(path) as file:
        file.write(f"{text}\n".encode())


def read_results(path: Path) -> list[Result]:
    """What ``write_results`` wrote.

    Raises:
        DataError: there is no such file, it is not JSON, or an entry lacks a field or has a wrong one.
    """
    try:
        entries = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(entries, list):
        raise DataError(f"{path}: holds a list of results, got {type(entries).__name__}")
    return [_result(path, number, entry) for number, entry in enumerate(entries)]


def write_samples(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """``samples.jsonl``: one JSON object a line (``evaluation.compare.sample_rows``), whole or absent.

    Of several ranks the first one writes.

    Raises:
        NonFiniteError: a number in a row is NaN or infinite.
    """
    if not world().leads:
        return
    with written_aside(path) as file:
        for number, row in enumerate(rows, start=1):
            try:
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            except ValueError as error:
                raise NonFiniteError(f"{path}:{number}: a number in the row is not finite") from error
            # a lone surrogate (half of a character, cut by the tokenizer) has no UTF-8
            file.write(f"{line}\n".encode(errors="replace"))


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The rows of ``samples.jsonl``.

    Raises:
        DataError: there is no such file, or a line is not a JSON object.
    """
    return [_row(path, number, line) for number, line in _numbered(path)]


def merged_samples(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several evaluations with every policy's reply to a prompt side by side.

    Rows are those of the first; a later evaluation adds the policies that are not there yet, where it asked
    the same prompts. One that asked others is left out.
    """
    if not runs:
        return []
    rows = [{**row, "replies": dict(row["replies"])} for row in runs[0]]
    for more in runs[1:]:
        if [row["prompt"] for row in more] != [row["prompt"] for row in rows]:
            continue
        for row, other in zip(rows, more, strict=True):
            row["replies"] |= {
                label: reply for label, reply in other["replies"].items() if label not in row["replies"]
            }
    return rows


def read_metrics(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, one dict a step, in the order of steps.

    Lines of one step are merged and the later value wins (a resumed run repeats steps). A last line
    without its newline is one that is still being written, or that a kill cut: it is left out. ``most`` reads
    as many at most, evenly spaced from the first; and the last one, and all that have a validation value or
    raised an alarm, of which there are few.

    Raises:
        DataError: there is no such file, or a line is not a JSON object with a ``step``.
    """
    steps: dict[int, dict[str, Any]] = {}
    lines = _numbered(path) if most is None else _some(path, most)
    for number, line in lines:
        if not line.endswith("\n"):
            continue
        row = _row(path, number, line)
        step = row.get("step")
        if not isinstance(step, int):
            raise DataError(
                f"{path}:{number}: a line of metrics has a whole number called 'step', got {step!r}"
            )
        steps[step] = steps.get(step, {}) | row
    return [steps[step] for step in sorted(steps)]


_RARE = re.compile(rb'"validation"|"alarms/(?!raised")')
"""What few lines hold; every line of a watched run says how many alarms were raised so far."""


def _some(path: Path, most: int) -> list[tuple[int, str]]:
    """As ``_numbered``: evenly spaced lines, the last, and rare ones. Bytes, since most are only counted."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    lines = content.split(b"\n")
    end = len(lines) - (1 if lines[-1] else 2)
    # a power of two, counted from the first: runs of different lengths share the lines of the coarser one
    every = 2 ** max(0, math.ceil(math.log2((end + 1) / most))) if end >= 0 else 1
    wanted = {*range(0, end + 1, every), max(0, end)}
    at = place = 0
    for found in _RARE.finditer(content):
        place += content.count(b"\n", at, found.start())
        at = found.start()
        wanted.add(place)
    cut = "" if lines[-1] else "\n"
    try:
        kept = [(place + 1, lines[place].decode()) for place in sorted(wanted) if lines[place].strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return [(number, line + ("\n" if number <= end else cut)) for number, line in kept]


def _result(path: Path, number: int, entry: Any) -> Result:
    if not isinstance(entry, dict) or sorted(entry) != sorted(_FIELDS):
        got = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
        raise DataError(f"{path}: result {number} (from 0) has {', '.join(_FIELDS)}; got {got}")
    value, low, high = (_number(path, entry, name) for name in ("value", "ci_low", "ci_high"))
    if value is None or not isinstance(entry["n"], int):
        raise DataError(f"{path}: result {number} (from 0) has numbers for value and n; got {entry}")
    return Result(str(entry["metric"]), value, entry["n"], low, high, str(entry["method"]))


def _number(path: Path, entry: Mapping[str, Any], name: str) -> float | None:
    value = entry[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{path}: {name} of {entry['metric']!r} is a finite number or null, got {value!r}")
    return float(value)


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: holds one JSON object a line, got {type(row).__name__}")
    return row


def _numbered(path: Path) -> list[tuple[int, str]]:
    # not splitlines(): a reply may hold other line separators
    lines = enumerate(_text(path).split("\n"), start=1)
    whole = [(number, f"{line}\n") for number, line in lines]
    last_number, last = whole.pop()
    rest = [(last_number, last.removesuffix("\n"))] if last != "\n" else []
    return [(number, line) for number, line in whole if line.strip()] + rest


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
