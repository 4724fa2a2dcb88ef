"""Who sees what next. Runs inside the writer's transaction, so that two annotators never take one place."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import Connection, exists, func, insert, or_, select, true, update

from align.annotate.database import fact
from align.annotate.draws import first_left, is_due
from align.annotate.places import Project, annotator, free_expired, take_place
from align.annotate.schema import assignments, items
from align.annotate.types import Finished, Paused, Task
from align.types import Message

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Row, Select

PAUSE = "paused"
"""The fact that pauses everybody."""

SAID = ("answered", "skipped")


def open_task(connection: Connection, name: str, now: float, lease: float) -> Task | Paused | None:
    """What an annotator is to see without anything being written: a pause, or a lease that is young enough.

    None where something must be given out or lengthened. ``lease`` is in seconds.
    """
    who = annotator(connection, name)
    if (pause := paused(connection, who)) is not None:
        return pause
    row = connection.execute(_of(who, "open")).first()
    if row is None or row.lease_until < now + lease / 2:
        return None
    return task(connection, row)


def next_task(
    connection: Connection, project: Project, name: str, now: float, code: str | None
) -> Task | Finished | Paused:
    """What an annotator has open, or the next item, given out for the time of a lease."""
    who = annotator(connection, name)
    if (pause := paused(connection, who)) is not None:
        return pause
    settings = project.settings
    row = connection.execute(_of(who, "open")).first()
    if row is None:
        free_expired(connection, now, settings)
        row = _own_expired(connection, project, who) or _new(connection, project, who, now)
    if row is None:
        return Finished(code)
    if row.lease_until < now + project.settings.lease_minutes * 60:
        lease(connection, project, row.id, now)
    return task(connection, row)


def lease(connection: Connection, project: Project, assignment: str, now: float) -> None:
    """Keeps an assignment for its annotator from now on for the time of a lease."""
    connection.execute(
        update(assignments)
        .where(assignments.c.id == assignment)
        .values(state="open", lease_until=now + project.settings.lease_minutes * 60)
    )


def task(connection: Connection, row: Row[Any]) -> Task:
    """An assignment as its annotator sees it."""
    item = connection.execute(select(items.c.prompt, items.c.replies).where(items.c.id == row.item)).one()
    first, second = (reply["text"] for reply in item.replies)
    return Task(
        assignment=row.id,
        prompt=tuple(Message(turn["role"], turn["content"]) for turn in item.prompt),
        left=first if row.first_left else second,
        right=second if row.first_left else first,
        number=row.number,
        can_undo=connection.execute(_said_by(row.annotator).limit(1)).first() is not None,
    )


def paused(connection: Connection, who: Row[Any]) -> Paused | None:
    """The pause that holds for an annotator: everybody's, or the annotator's own."""
    everybody = fact(connection, PAUSE)
    pause = everybody or who.paused
    return Paused(pause["reason"]) if pause else None


def count_said(connection: Connection, who: int) -> int:
    """Items that an annotator is done with, skipped ones and checks included."""
    mine = _said_by(who).subquery()
    return connection.execute(select(func.count()).select_from(mine)).scalar_one()


def _said_by(who: int) -> Select[Any]:
    return select(assignments.c.number).where(assignments.c.annotator == who, assignments.c.state.in_(SAID))


def _of(who: Row[Any], state: str) -> Select[Any]:
    """An annotator's assignments in a state, the oldest first: what an undo opened comes before the rest."""
    return (
        select(assignments)
        .where(assignments.c.annotator == who.id, assignments.c.state == state)
        .order_by(assignments.c.number)
    )


def _own_expired(connection: Connection, project: Project, who: Row[Any]) -> Row[Any] | None:
    """What the annotator's own lease ran out on, where nobody else has taken the place since."""
    statement = _of(who, "expired").join(items, items.c.id == assignments.c.item)
    wanted = statement.where(or_(items.c.open == true(), assignments.c.kind == "repeat")).limit(1)
    row = connection.execute(wanted).first()
    if row is not None:
        take_place(connection, row, project.settings)
    return row


def _new(connection: Connection, project: Project, who: Row[Any], now: float) -> Row[Any] | None:
    """A further item, or None where there is none left for this annotator."""
    settings = project.settings
    limit = settings.items_per_annotator
    if limit is not None and count_said(connection, who.id) >= limit:
        return None
    mine = select(func.max(assignments.c.number)).where(assignments.c.annotator == who.id)
    number = (connection.execute(mine).scalar() or 0) + 1
    left = first_left(project.secret, who.name, number)
    shares = {
        "attention": settings.attention_share,
        "gold": settings.gold_share,
        "repeat": settings.repeat_share,
    }
    for kind, share in shares.items():
        if not share:
            continue
        last = connection.execute(mine.where(assignments.c.kind == kind)).scalar() or 0
        if not is_due(project.secret, who.name, kind, share, number, last):
            continue
        if kind == "repeat":
            item = _to_repeat(connection, who.id, number - 1 - settings.repeat_distance, left)
        else:
            item = _least_taken(connection, kind, who.id)
        if item is not None:
            return _assign(connection, project, who.id, item, kind, number, left, now)
    item = _least_taken(connection, "ordinary", who.id)
    if item is None:
        return None
    return _assign(connection, project, who.id, item, "ordinary", number, left, now)


def _least_taken(connection: Connection, kind: str, who: int) -> int | None:
    """The item new to the annotator with the fewest answers and leases; among equals, the first added.

    Reads the index in its order and stops at the first that fits: as many steps as there are items before it
    that this annotator has had.
    """
    had = exists().where(assignments.c.annotator == who, assignments.c.item == items.c.id)
    return connection.execute(
        select(items.c.id)
        .where(items.c.kind == kind, items.c.open == true(), ~had)
        .order_by(items.c.taken, items.c.id)
        .limit(1)
    ).scalar()


def _to_repeat(connection: Connection, who: int, before: int, left: bool) -> int | None:
    """The first item that this annotator answered, up to a number, with the other side on the left."""
    again = assignments.alias()
    repeated = exists().where(
        again.c.annotator == who, again.c.item == assignments.c.item, again.c.kind == "repeat"
    )
    return connection.execute(
        select(assignments.c.item)
        .where(
            assignments.c.annotator == who,
            assignments.c.kind == "ordinary",
            assignments.c.state == "answered",
            assignments.c.number <= before,
            assignments.c.first_left != left,
            ~repeated,
        )
        .order_by(assignments.c.number)
        .limit(1)
    ).scalar()


def _assign(
    connection: Connection,
    project: Project,
    who: int,
    item: int,
    kind: str,
    number: int,
    left: bool,
    now: float,
) -> Row[Any]:
    """Writes an assignment down, with a place in its item."""
    row = connection.execute(
        insert(assignments)
        .values(
            id=secrets.token_urlsafe(16),
            item=item,
            annotator=who,
            number=number,
            kind=kind,
            first_left=left,
            state="open",
            counts=kind != "repeat",
            asked_at=now,
            lease_until=now + project.settings.lease_minutes * 60,
            revision=0,
        )
        .returning(assignments)
    ).one()
    if kind != "repeat":
        taken = items.c.taken + 1
        connection.execute(
            update(items).where(items.c.id == item).values(taken=taken, open=taken < items.c.wanted)
        )
    return row
