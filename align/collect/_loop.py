"""Going through all that is given, chunk by chunk, and what of it is kept at the end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from align.collect._bench import named
from align.collect._given import content
from align.errors import AlignError, BadRow, CheckpointError
from align.generation.chunks import in_chunks
from align.pairs.check import check
from align.pairs.records import record_from, to_line
from align.protocols import Arranges
from align.types import Abstained, Candidates, Outcome, PreferenceRecord

if TYPE_CHECKING:
    from pathlib import Path

    from align.protocols import Collecting, Collector

Outcomes = tuple[Outcome, ...]


@dataclass(frozen=True)
class Collected:
    """The records in their final order, and how often there was none, by reason."""

    records: list[PreferenceRecord]
    abstained: Counter[str]


def outcomes(
    path: Path,
    given: Sequence[Candidates],
    chunk: int,
    seed: int,
    collecting: Collecting,
    advance: Callable[[int], None],
) -> list[Outcomes]:
    """What each of ``given`` came to: what ``path`` holds already, then the others, appended as they come.

    Raises:
        CheckpointError: the file is about something else.
    """

    def work(items: Sequence[Candidates], chunk_seed: int) -> list[Outcomes]:
        found = collecting(items, chunk_seed)
        if len(found) != len(items):
            raise AlignError(f"the method made {len(found)} of {len(items)}: one outcome an item, in order")
        advance(len(items))
        return [tuple(map(_checked, each)) for each in found]

    return in_chunks(path, given, chunk, seed, work, _line, _outcomes)


def collected(collector: Collector, each: Sequence[Outcomes], seed: int) -> Collected:
    """All outcomes as one set: arranged by the method, no pair twice, abstentions counted."""
    abstained: Counter[str] = Counter()
    records = _records([one for found in each for one in found], abstained)
    if isinstance(collector, Arranges):
        records = _records(collector.arrange(records, seed), abstained)
    kept = {record.pair_id: record for record in reversed(records)}
    unique = [record for record in records if kept[record.pair_id] is record]
    if len(unique) < len(records):
        abstained["repeated_pair"] += len(records) - len(unique)
    return Collected(unique, abstained)


def _records(found: Sequence[Outcome], abstained: Counter[str]) -> list[PreferenceRecord]:
    abstained.update(one.reason for one in found if isinstance(one, Abstained))
    return [one for one in found if isinstance(one, PreferenceRecord)]


def _checked(outcome: Outcome) -> Outcome:
    """What a reader would refuse is no pair: an empty reply, two that are the same, half a character."""
    if isinstance(outcome, Abstained):
        return outcome
    try:
        check(outcome)
    except BadRow as bad:
        return Abstained(bad.reason, bad.detail)
    return named(outcome)


def _line(item: Candidates, found: Outcomes) -> bytes:
    rows = [
        {"abstained": one.reason, "detail": one.detail}
        if isinstance(one, Abstained)
        else {"record": json.loads(to_line(one))}
        for one in found
    ]
    # escaped, so that half a character in a detail comes back as it was
    return json.dumps({"of": _digest(item), "outcomes": rows}, allow_nan=False).encode() + b"\n"


def _outcomes(item: Candidates | None, row: dict[str, Any], place: str) -> Outcomes | None:
    if not {"of", "outcomes"} <= row.keys():
        return None
    if item is None or row["of"] != _digest(item):
        raise CheckpointError(
            f"{place} is about something else than this run is given: the data has changed. "
            f"Give another run.dir"
        )
    return tuple(
        record_from(one["record"]) if "record" in one else Abstained(one["abstained"], one["detail"])
        for one in row["outcomes"]
    )


def _digest(item: Candidates) -> str:
    return hashlib.blake2b(content(item).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
