"""What the desk tells: votes in canonical terms, records of them, and how far everybody is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Connection, and_, func, select, true

from align.annotate.allocate import PAUSE, count_said
from align.annotate.answers import rights
from align.annotate.database import fact
from align.annotate.places import annotator, canonical
from align.annotate.schema import annotators, assignments, events, items, revisions
from align.annotate.types import (
    AnnotatorStatus,
    Event,
    Kind,
    LeftOut,
    Progress,
    ProjectStatus,
    Vote,
)
from align.types import Judge, Location, Message, PreferenceRecord, Reply, Strength

if TYPE_CHECKING:
    from sqlalchemy import Row, Select

_TOLD = ("id", "preferred", "judge", "margin", "strength", "details")
"""What a record tells of what was known before a person judged its pair."""

_MANY = 2000
_LATELY = 10.0
"""Seconds for which the count of so many open items is not taken anew."""

_AT_ONCE = 500
"""Rows that are held in memory while many are read."""


def votes(connection: Connection) -> Iterator[Vote]:
    """The current answer of every assignment that was ever answered, item by item."""
    for row in connection.execute(_current(), execution_options={"yield_per": _AT_ONCE}):
        yield _vote(row)


def records(connection: Connection, checks: bool) -> Iterator[PreferenceRecord]:
    """A record for each current answer that says which reply is better, or that neither is."""
    for row in connection.execute(
        _current(items.c.prompt, items.c.replies, items.c.source), execution_options={"yield_per": _AT_ONCE}
    ):
        vote = _vote(row)
        if vote.said not in ("skip", "undone") and (checks or _mark(vote) is None):
            yield _record(row, vote)


def left_out(connection: Connection) -> LeftOut:
    """How many answers ``records`` leaves out unless it is asked for them all."""
    found = LeftOut()
    for vote in votes(connection):
        reason = {"skip": "skipped", "undone": "undone"}.get(vote.said) or _mark(vote)
        if reason is not None:
            name = {"gold": "checks", "attention": "checks", "repeat": "repeats"}.get(reason, reason)
            found = replace(found, **{name: getattr(found, name) + 1})
    return found


class OpenItems:
    """How many ordinary items want votes. Counting many takes long, and then a few are no matter."""

    def __init__(self) -> None:
        self._known = (0, 0.0)

    def count(self, connection: Connection) -> int:
        """Counted now where they are few; where they are many, within the last seconds."""
        count, at = self._known
        if count < _MANY or time.monotonic() > at + _LATELY:
            free = select(items.c.id).where(items.c.kind == "ordinary", items.c.open == true())
            count = _count(connection, free)
            self._known = (count, time.monotonic())
        return count


def progress(connection: Connection, name: str, limit: int | None, free: OpenItems) -> Progress:
    """How far one annotator is; ``limit`` is the items that an annotator has at most."""
    who = annotator(connection, name)
    done = count_said(connection, who.id)
    mine = assignments.c.annotator == who.id
    had = (
        select(items.c.id)
        .join(assignments, and_(assignments.c.item == items.c.id, mine))
        .where(items.c.kind == "ordinary", items.c.open == true())
    )
    before = select(assignments.c.id).where(mine, assignments.c.state == "open")
    left = free.count(connection) - _count(connection, had) + _count(connection, before)
    left = max(0, left if limit is None else min(left, limit - done))
    return Progress(done, done + left, left)


def _count(connection: Connection, rows: Select[Any]) -> int:
    return connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one()


def everybody(connection: Connection) -> list[AnnotatorStatus]:
    """All annotators, in the order of enrolment."""
    counted = select(assignments.c.annotator, assignments.c.state, func.count().label("count")).group_by(
        assignments.c.annotator, assignments.c.state
    )
    counts = {(who, state): count for who, state, count in connection.execute(counted)}
    found = []
    for row in connection.execute(select(annotators).order_by(annotators.c.id)).all():
        gold, attention = (rights(connection, row.id, kind) for kind in ("gold", "attention"))
        found.append(
            AnnotatorStatus(
                name=row.name,
                paused=(row.paused or {}).get("why"),
                enrolled_at=iso(row.enrolled_at),
                served=sum(count for (who, _), count in counts.items() if who == row.id),
                answered=counts.get((row.id, "answered"), 0),
                skipped=counts.get((row.id, "skipped"), 0),
                gold_right=sum(gold),
                gold_answered=len(gold),
                attention_failed=attention.count(False),
                attention_answered=len(attention),
            )
        )
    return found


def status(connection: Connection) -> ProjectStatus:
    """Items, votes, and what is still wanted."""
    kinds = connection.execute(select(items.c.kind, func.count()).group_by(items.c.kind))
    counts = {row[0]: row[1] for row in kinds}
    ordinary = select(func.count(), func.sum(items.c.votes), func.sum(items.c.wanted)).where(
        items.c.kind == "ordinary"
    )
    _, cast, wanted = connection.execute(ordinary).one()
    complete = select(func.count()).where(items.c.kind == "ordinary", items.c.votes >= items.c.wanted)
    waiting = select(func.count()).where(assignments.c.state == "open")
    pause = fact(connection, PAUSE)
    return ProjectStatus(
        items={kind: counts.get(kind, 0) for kind in get_args(Kind)},
        complete=connection.execute(complete).scalar_one(),
        votes=cast or 0,
        wanted=wanted or 0,
        open=connection.execute(waiting).scalar_one(),
        paused=pause and pause["reason"],
    )


def happened(connection: Connection) -> list[Event]:
    """Events, oldest first."""
    found = connection.execute(
        select(events.c.at, events.c.what, events.c.details, annotators.c.name)
        .outerjoin(annotators, annotators.c.id == events.c.annotator)
        .order_by(events.c.id)
    )
    return [Event(iso(row.at), row.what, row.name, row.details) for row in found]


def version(connection: Connection) -> int:
    """A number that grows with every answer and event: what was computed at the same one still holds."""
    said = connection.execute(select(func.max(revisions.c.id))).scalar() or 0
    done = connection.execute(select(func.max(events.c.id))).scalar() or 0
    return int(said + done)


def iso(seconds: float) -> str:
    """A time as records carry it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _current(*more: Any) -> Select[Any]:
    """Every answered assignment with its latest revision, in the order of items and then of the assignments.

    A table without an answer leaves nothing: skipped and undone ones are there, open ones are not.
    """
    return (
        select(
            assignments,
            revisions.c.at,
            revisions.c.choice,
            revisions.c.strength,
            revisions.c.strength_of,
            revisions.c.seconds,
            revisions.c.guideline,
            revisions.c.details,
            items.c.pair_id,
            items.c.prompt_id,
            items.c.right_answer,
            items.c.kind.label("item_kind"),
            annotators.c.name,
            *more,
        )
        .select_from(assignments)
        .join(
            revisions,
            and_(
                revisions.c.assignment == assignments.c.id,
                revisions.c.number == assignments.c.revision,
            ),
        )
        .join(items, items.c.id == assignments.c.item)
        .join(annotators, annotators.c.id == assignments.c.annotator)
        .order_by(assignments.c.item, assignments.c.annotator, assignments.c.number)
    )


def _vote(row: Row[Any]) -> Vote:
    said: Any = canonical(row.choice, row.first_left)
    criteria: Any = {
        name: canonical(side, row.first_left) for name, side in row.details.get("criteria", {}).items()
    }
    repeat = row.kind == "repeat"
    return Vote(
        assignment=row.id,
        pair_id=row.pair_id,
        annotator=row.name,
        kind=row.item_kind,
        repeat=repeat,
        surplus=row.state == "answered" and not row.counts and not repeat,
        said=said,
        left="first" if row.first_left else "second",
        right_answer=row.right_answer,
        strength=row.strength,
        criteria=criteria,
        reason=row.details.get("reason", ""),
        flag=row.details.get("flag"),
        seconds=row.seconds,
        asked_at=iso(row.asked_at),
        judged_at=iso(row.at),
        revision=row.revision,
        number=row.number,
    )


def _mark(vote: Vote) -> str | None:
    """Why an answer is no vote on its pair; None where it is one."""
    if vote.repeat:
        return "repeat"
    if vote.kind != "ordinary":
        return vote.kind
    return "surplus" if vote.surplus else None


def _record(row: Row[Any], vote: Vote) -> PreferenceRecord:
    source = row.source
    said: Any = vote.said
    first, second = (
        Reply(reply["text"], reply["model"], reply["sampling"], reply["seed"]) for reply in row.replies
    )
    known = {
        "reason": vote.reason or None,
        "criteria": dict(vote.criteria) or None,
        "flag": vote.flag,
        "seconds": vote.seconds,
        "not_a_vote": _mark(vote),
        "right_answer": vote.right_answer,
    }
    return PreferenceRecord(
        id=f"{vote.pair_id}-{vote.assignment}",
        prompt=tuple(Message(turn["role"], turn["content"]) for turn in row.prompt),
        replies=(first, second),
        preferred=said,
        judge=Judge("human", vote.annotator),
        strength=None if row.strength is None else Strength(row.strength, row.strength_of or row.strength),
        method=source.get("method") or "annotate",
        prompt_id=row.prompt_id,
        pair_id=vote.pair_id,
        guideline=row.guideline,
        asked_at=vote.asked_at,
        judged_at=vote.judged_at,
        template=source.get("template"),
        details={
            **{name: value for name, value in known.items() if value is not None},
            "revision": vote.revision,
            "left": vote.left,
            "source": {name: source[name] for name in _TOLD if name in source},
        },
        location=source.get("location") and Location(**source["location"]),
    )
