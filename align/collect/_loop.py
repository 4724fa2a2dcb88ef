"""Going through all that is given, chunk by chunk, and what of it is kept at the end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from align.collect._bench import Abstained, Candidates, Collected, Outcome, named
from align.collect._given import content
from align.collect._lengths import kept_places
from align.errors import AlignError, BadRow, CheckpointError
from align.generation.chunks import in_chunks
from align.pairs.candidates import candidate_from, candidate_line, judged, unjudged
from align.pairs.check import check
from align.pairs.records import record_from, to_line
from align.protocols import Arranges, Chooses
from align.types import CandidatePair, Judge, PreferenceRecord

if TYPE_CHECKING:
    from pathlib import Path

    from align.collect._lengths import LengthControl
    from align.protocols import Collecting, Collector

Pair = TypeVar("Pair", PreferenceRecord, CandidatePair)
Outcomes = tuple[Outcome, ...]


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


def collected(
    collector: Collector, each: Sequence[Outcomes], seed: int, control: LengthControl | None = None
) -> Collected:
    """All outcomes as one set: arranged by the method, no pair twice, lengths as asked, the rest counted."""
    outcomes = [one for found in each for one in found]
    records = [one for one in outcomes if isinstance(one, PreferenceRecord)]
    candidates = [one for one in outcomes if isinstance(one, CandidatePair)]
    abstained = Counter(one.reason for one in outcomes if isinstance(one, Abstained))
    if isinstance(collector, Arranges):
        arranged = collector.arrange(records, seed)
        records = [one for one in arranged if isinstance(one, PreferenceRecord)]
        abstained.update(one.reason for one in arranged if isinstance(one, Abstained))
    records = _once(records, abstained)
    candidates = _once(candidates, abstained)
    if isinstance(collector, Chooses):
        chosen = collector.select(candidates, seed)
        candidates = [one for one in chosen if isinstance(one, CandidatePair)]
        abstained.update(one.reason for one in chosen if isinstance(one, Abstained))
    if control is not None:
        records = _by_length(records, control, abstained)
    return Collected(records, candidates, abstained, outcomes)


def _once(pairs: list[Pair], abstained: Counter[str]) -> list[Pair]:
    """The first of each pair."""
    kept = {pair.pair_id: pair for pair in reversed(pairs)}
    unique = [pair for pair in pairs if kept[pair.pair_id] is pair]
    if len(unique) < len(pairs):
        abstained["repeated_pair"] += len(pairs) - len(unique)
    return unique


def _by_length(
    records: list[PreferenceRecord], control: LengthControl, abstained: Counter[str]
) -> list[PreferenceRecord]:
    """Without the decisive pairs that the control leaves out; where neither is preferred, all stay."""
    pairs = {place: pair for place, record in enumerate(records) if (pair := record.pair()) is not None}
    kept = kept_places(list(pairs.values()), control)
    left_out = pairs.keys() - {list(pairs)[place] for place in kept}
    if left_out:
        abstained[f"length_{control.how}"] += len(left_out)
    return [record for place, record in enumerate(records) if place not in left_out]


def _checked(outcome: Outcome) -> Outcome:
    """What a reader would refuse is no pair: an empty reply, two that are the same, half a character."""
    if isinstance(outcome, Abstained):
        return outcome
    record = judged(outcome, "first", Judge("file", "")) if isinstance(outcome, CandidatePair) else outcome
    try:
        check(record)
    except BadRow as bad:
        return Abstained(bad.reason, bad.detail)
    return unjudged(record) if isinstance(outcome, CandidatePair) else named(record)


def _line(item: Candidates, found: Outcomes) -> bytes:
    rows = [
        {"abstained": one.reason, "detail": one.detail}
        if isinstance(one, Abstained)
        else {"candidate": json.loads(candidate_line(one))}
        if isinstance(one, CandidatePair)
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
    return tuple(map(_outcome, row["outcomes"]))


def _outcome(row: dict[str, Any]) -> Outcome:
    if "abstained" in row:
        return Abstained(row["abstained"], row["detail"])
    return candidate_from(row["candidate"]) if "candidate" in row else record_from(row["record"])


def _digest(item: Candidates) -> str:
    return hashlib.blake2b(content(item).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
