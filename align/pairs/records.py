"""``PreferenceRecord`` on disk: ``records.jsonl``, one record a line, and ``manifest.json``, written last."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from align.errors import BadRow, DataError
from align.files import written_aside
from align.types import (
    RECORD_VERSION,
    Judge,
    Location,
    Message,
    PreferenceRecord,
    Preferred,
    Reply,
    Role,
    Strength,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

RECORDS = "records.jsonl"
MANIFEST = "manifest.json"
KIND = "preference_records"
JUDGES: tuple[str, ...] = get_args(get_type_hints(Judge)["kind"])


def write_records(folder: Path, records: Iterable[PreferenceRecord]) -> int:
    """Writes records (streamed) and their manifest; returns how many.

    The manifest goes first and comes back last: a folder without one is no folder of records.

    Raises:
        DataError: a record that JSON or UTF-8 cannot hold (a NaN margin, half a character).
    """
    preferred: Counter[str] = Counter()

    def lines() -> Iterator[bytes]:
        for record in records:
            preferred[record.preferred] += 1
            yield to_line(record)

    def facts() -> dict[str, Any]:
        return {"preferred": {word: preferred[word] for word in get_args(Preferred)}}

    return write_lines(folder, RECORDS, KIND, lines(), facts)


def write_lines(
    folder: Path, name: str, kind: str, lines: Iterable[bytes], facts: Callable[[], Mapping[str, Any]]
) -> int:
    """Writes a file of lines (streamed) and the manifest that tells of it; returns how many lines.

    ``facts`` are what the manifest says beside their number, asked for after the last line.
    """
    manifest_path = folder / MANIFEST
    manifest_path.unlink(missing_ok=True)
    digest = hashlib.sha256()
    size = count = 0
    with written_aside(folder / name) as file:
        for line in lines:
            digest.update(line)
            size += len(line)
            count += 1
            file.write(line)
    manifest = {
        "kind": kind,
        "version": RECORD_VERSION,
        "records": count,
        **facts(),
        "files": {name: {"bytes": size, "sha256": digest.hexdigest()}},
    }
    with written_aside(manifest_path) as file:
        file.write((json.dumps(manifest, indent=2) + "\n").encode())
    return count


def read_records(folder: Path) -> Iterator[PreferenceRecord]:
    """The records of a folder, as they were written.

    Raises:
        DataError: the folder is not whole, of an unknown version, or holds what is no record.
    """
    verify(folder)
    with (folder / RECORDS).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield record_from(json.loads(line))
            except (ValueError, BadRow) as error:
                raise DataError(f"{folder / RECORDS}:{number}: {error}") from error


def verify(folder: Path, kind: str = KIND, name: str = RECORDS) -> None:
    """Holds the file against its manifest: kind, version, SHA-256 (one pass over the bytes).

    Raises:
        DataError: the two do not belong together, or the version is not known.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        version, found_kind = manifest["version"], manifest["kind"]
        expected = manifest["files"][name]["sha256"] if found_kind == kind else ""
    except FileNotFoundError as error:
        raise DataError(f"{folder} has no {MANIFEST}: it was not written to its end") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no manifest of records") from error
    if found_kind != kind or version != RECORD_VERSION:
        raise DataError(
            f"{path} is of kind {found_kind!r}, version {version!r}; this align reads {kind!r}, "
            f"version {RECORD_VERSION}"
        )
    with (folder / name).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{folder / name} is not the file that {MANIFEST} describes: it was cut or changed. "
            f"To read it as it is now, give {folder / name} itself"
        )


def to_line(record: PreferenceRecord) -> bytes:
    """One record as one line of UTF-8 JSON; equal records give equal bytes."""
    return encoded(values_of(record))


def values_of(record: PreferenceRecord) -> dict[str, Any]:
    """A record as the JSON values of its line."""
    return {
        "version": record.version,
        "id": record.id,
        "prompt_id": record.prompt_id,
        "pair_id": record.pair_id,
        "prompt": [{"role": message.role, "content": message.content} for message in record.prompt],
        "replies": [
            {
                "text": reply.text,
                "model": reply.model,
                "sampling": dict(reply.sampling),
                "seed": reply.seed,
            }
            for reply in record.replies
        ],
        "preferred": record.preferred,
        "judge": {"kind": record.judge.kind, "name": record.judge.name, "version": record.judge.version},
        "margin": record.margin,
        "strength": record.strength and {"step": record.strength.step, "of": record.strength.of},
        "method": record.method,
        "guideline": record.guideline,
        "asked_at": record.asked_at,
        "judged_at": record.judged_at,
        "template": record.template,
        "details": dict(record.details),
        "location": record.location and {"path": record.location.path, "line": record.location.line},
    }


def encoded(values: Mapping[str, Any]) -> bytes:
    """JSON values as one line.

    Raises:
        DataError: JSON or UTF-8 cannot hold them.
    """
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (ValueError, TypeError) as error:
        raise DataError(f"record {values['id']!r} cannot be written: {error}") from error


def record_from(values: Mapping[str, Any]) -> PreferenceRecord:
    """The record that ``to_line`` wrote.

    Raises:
        BadRow: a version that is not known, or values that make no record.
    """
    version = values.get("version")
    if version != RECORD_VERSION:
        raise BadRow("unknown_version", f"version {version!r}; this align reads {RECORD_VERSION}")
    if "judge" in values and values["judge"] is None:
        raise BadRow("not_judged", "a candidate pair: nobody has said which reply is better")
    try:
        first, second = (_reply(reply) for reply in values["replies"])
        location = values["location"]
        record = PreferenceRecord(
            id=values["id"],
            prompt=tuple(Message(message["role"], message["content"]) for message in values["prompt"]),
            replies=(first, second),
            preferred=values["preferred"],
            judge=Judge(**values["judge"]),
            margin=values["margin"],
            strength=values["strength"] and Strength(**values["strength"]),
            method=values["method"],
            prompt_id=values["prompt_id"],
            pair_id=values["pair_id"],
            guideline=values["guideline"],
            asked_at=values["asked_at"],
            judged_at=values["judged_at"],
            template=values["template"],
            details=dict(values["details"]),
            location=location and Location(location["path"], location["line"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRow("not_a_record", f"{type(error).__name__}: {error}") from error
    _check_values(record)
    return record


def _reply(values: Mapping[str, Any]) -> Reply:
    return Reply(values["text"], values["model"], values["sampling"], values["seed"])


def _check_values(record: PreferenceRecord) -> None:
    """JSON of the right shape can still hold a number where text belongs, or a word that nobody knows."""
    ids = [record.id, record.prompt_id, record.pair_id]
    texts = [*ids, *(message.content for message in record.prompt), *(r.text for r in record.replies)]
    texts += [record.judge.name, "" if record.judge.version is None else record.judge.version]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise BadRow("not_text", f"{wrong[0]!r} where text belongs")
    roles = [message.role for message in record.prompt if message.role not in get_args(Role)]
    if roles:
        raise BadRow("unknown_role", repr(roles[0]))
    if record.judge.kind not in JUDGES:
        raise BadRow("unknown_judge", f"{record.judge.kind!r}; its kind is one of {', '.join(JUDGES)}")
    if record.preferred not in get_args(Preferred):
        raise BadRow(
            "unknown_preference", f"{record.preferred!r}; it is one of {', '.join(get_args(Preferred))}"
        )
    margin: object = record.margin
    if margin is not None and not _is_a_margin(margin):
        raise BadRow("bad_margin", f"{margin!r}; it is a number from 0 up, or null")
    strength = record.strength
    if strength is not None and not _is_a_strength(strength):
        raise BadRow("bad_strength", f"step {strength.step!r} of {strength.of!r}; it is one from 1 to that")


def _is_a_margin(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _is_a_strength(strength: Strength) -> bool:
    steps: tuple[object, object] = (strength.step, strength.of)
    if not all(isinstance(step, int) and not isinstance(step, bool) for step in steps):
        return False
    return 1 <= strength.step <= strength.of
