"""Items, from records and candidate pairs: what was judged before is hidden. Attention checks come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select, update

from align.annotate.places import NO_END, Project, note, settle
from align.annotate.schema import assignments, items
from align.annotate.types import Imported, Kind
from align.errors import BadRow
from align.pairs.candidates import judged
from align.pairs.check import check, pair_id, prompt_id
from align.types import CandidatePair, Judge, Message, PreferenceRecord, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1000
"""Items of one transaction: annotators wait for one at most."""

_NOBODY = Judge("file", "nobody")

CHECKS = (
    ("maple", "harbour"), ("violin", "granite"), ("lantern", "meadow"), ("copper", "pigeon"),
    ("saddle", "winter"), ("orchard", "needle"), ("pepper", "island"), ("blanket", "comet"),
    ("river", "button"), ("candle", "tunnel"), ("walnut", "engine"), ("mirror", "valley"),
    ("feather", "kettle"), ("anchor", "pumpkin"), ("ladder", "cloud"), ("bridge", "cherry"),
)  # fmt: skip
"""Two words each of which an attention check names the first."""


def add(
    write: Callable[[Callable[[Connection], Any]], Any],
    pairs: Iterable[PreferenceRecord | CandidatePair],
    kind: Kind,
    project: Project,
    clock: Callable[[], float],
) -> Imported:
    """Adds pairs as items, a chunk a transaction; those that are there already are refused and counted."""
    refused: Counter[str] = Counter()
    added = 0
    rows = _rows(pairs, kind, project, refused)
    while chunk := list(islice(rows, CHUNK)):
        fresh: int = write(lambda connection, chunk=chunk: _insert(connection, chunk))  # type: ignore[misc]
        added += fresh
        refused["duplicate"] += len(chunk) - fresh
    found = Imported(added, {reason: count for reason, count in sorted(refused.items()) if count})
    write(lambda connection: note(connection, clock(), "imported", {"kind": kind, **asdict(found)}))
    return found


def attention_checks() -> Iterator[PreferenceRecord]:
    """Items that say which reply to choose."""
    for word, other in CHECKS:
        ask = f'This item checks that somebody is reading. Please choose the reply that says "{word}".'
        yield PreferenceRecord(
            id="",
            prompt=(Message("user", ask),),
            replies=(Reply(word), Reply(other)),
            preferred="first",
            judge=Judge("function", "attention_checks"),
        )


def settle_all(connection: Connection, project: Project) -> None:
    """Holds every ordinary item against settings that have changed since it was last looked at."""
    overlap = project.settings.overlap
    started = select(assignments.c.item).distinct()
    connection.execute(
        update(items)
        .where(items.c.kind == "ordinary", items.c.id.not_in(started))
        .values(wanted=overlap, open=True)
    )
    for item in connection.execute(started).scalars().all():
        if connection.execute(select(items.c.kind).where(items.c.id == item)).scalar() == "ordinary":
            settle(connection, item, project.settings)


def _rows(
    pairs: Iterable[PreferenceRecord | CandidatePair], kind: Kind, project: Project, refused: Counter[str]
) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        try:
            yield _row(pair, kind, project)
        except BadRow as bad:
            refused[bad.reason] += 1


def _row(pair: PreferenceRecord | CandidatePair, kind: Kind, project: Project) -> dict[str, Any]:
    is_judged = isinstance(pair, PreferenceRecord)
    if kind != "ordinary" and not is_judged:
        raise BadRow("no_answer", f"a pair that nobody has judged has no right answer: it is no {kind} item")
    record = pair if isinstance(pair, PreferenceRecord) else judged(pair, "first", _NOBODY)
    # as if decided, for two replies that are the same can be told apart by nobody
    check(replace(record, preferred="first"))
    ids = (record.pair_id or pair_id(record), record.prompt_id or prompt_id(record.prompt))
    if any("\0" in one for one in ids):
        raise BadRow("bad_id", f"{ids} hold a NUL character, which PostgreSQL keeps in no id")
    known = {
        "method": pair.method,
        "template": pair.template,
        "details": dict(pair.details),
        "location": pair.location and asdict(pair.location),
    }
    return {
        "pair_id": ids[0],
        "prompt_id": ids[1],
        "kind": kind,
        "prompt": [asdict(turn) for turn in record.prompt],
        "replies": [{**vars(reply), "sampling": dict(reply.sampling)} for reply in record.replies],
        "right_answer": None if kind == "ordinary" else record.preferred,
        "source": {**known, **(_judgement(record) if is_judged else {})},
        "votes": 0,
        "taken": 0,
        "wanted": project.settings.overlap if kind == "ordinary" else NO_END,
        "open": True,
    }


def _judgement(record: PreferenceRecord) -> dict[str, Any]:
    """What was judged of the pair before, and by whom: it goes into the records of what people say."""
    return {
        "id": record.id,
        "preferred": record.preferred,
        "judge": asdict(record.judge),
        "margin": record.margin,
        "strength": record.strength and asdict(record.strength),
    }


def _insert(connection: Connection, chunk: list[dict[str, Any]]) -> int:
    """Inserts rows whose pair is new; returns how many. Nobody else writes in between."""
    names = [row["pair_id"] for row in chunk]
    there = set(connection.execute(select(items.c.pair_id).where(items.c.pair_id.in_(names))).scalars())
    fresh = {row["pair_id"]: row for row in reversed(chunk) if row["pair_id"] not in there}
    if fresh:
        connection.execute(insert(items), [row for row in chunk if fresh.get(row["pair_id"]) is row])
    return len(fresh)
