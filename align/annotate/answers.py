"""Taking an answer, and taking it back. Runs inside the writer's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, insert, select, update

from align.annotate.allocate import SAID, lease, task
from align.annotate.places import Project, annotator, canonical, note, settle, take_place
from align.annotate.schema import annotators, assignments, items, revisions
from align.annotate.types import Answer, Receipt, Task
from align.errors import Refused

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Row

LOOKED_AT = "Thank you. Somebody looks at your answers before there are more."
"""What an annotator reads whom a threshold has paused: nothing of which items were checks."""


def take(connection: Connection, project: Project, name: str, answer: Answer, now: float) -> Receipt:
    """Adds a revision, unless this very answer is there already."""
    who = annotator(connection, name)
    row = _own(connection, who.id, answer.assignment)
    known = connection.execute(
        select(revisions.c.number).where(revisions.c.assignment == row.id, revisions.c.key == answer.key)
    ).scalar()
    if known is not None:
        return Receipt(row.id, known)
    if row.state in SAID and _latest(connection, row) == _content(answer):
        return Receipt(row.id, row.revision)
    skips = answer.choice == "skip"
    number = _revise(
        connection,
        project,
        row,
        now,
        "skipped" if skips else "answered",
        key=answer.key,
        choice=answer.choice,
        strength=answer.strength,
        strength_of=project.strength_of if answer.strength is not None else None,
        seconds=answer.seconds,
        details={"criteria": dict(answer.criteria), "reason": answer.reason, "flag": answer.flag},
    )
    if row.kind in ("gold", "attention") and not skips:
        _hold_to_thresholds(connection, project, who, now)
    return Receipt(row.id, number)


def take_back(
    connection: Connection, project: Project, name: str, assignment: str | None, now: float
) -> Task:
    """Adds the revision ``undone`` to the latest answer (or to that of the assignment) and opens it again."""
    who = annotator(connection, name)
    if assignment is not None:
        row: Row[Any] | None = _own(connection, who.id, assignment)
        if row is not None and row.state == "open" and row.revision:
            return task(connection, row)  # a retry
    else:
        row = connection.execute(
            select(assignments)
            .where(assignments.c.annotator == who.id, assignments.c.state.in_(SAID))
            .order_by(assignments.c.said_at.desc(), assignments.c.number.desc())
            .limit(1)
        ).first()
    if row is None or row.state not in SAID:
        raise Refused("nothing_to_undo", "there is no answer to take back")
    _revise(connection, project, row, now, "open", choice="undone", details={})
    lease(connection, project, row.id, now)
    return task(connection, row)


def _own(connection: Connection, who: int, assignment: str) -> Row[Any]:
    row = connection.execute(
        select(assignments).where(assignments.c.id == assignment, assignments.c.annotator == who)
    ).one_or_none()
    if row is None:
        raise Refused("unknown_assignment", "this annotator was not given it")
    return row


def _latest(connection: Connection, row: Row[Any]) -> tuple[Any, ...]:
    """What the assignment's current answer says."""
    said = connection.execute(
        select(revisions).where(revisions.c.assignment == row.id, revisions.c.number == row.revision)
    ).one()
    return said.choice, said.strength, said.details


def _content(answer: Answer) -> tuple[Any, ...]:
    """The same of an answer; how long it took is no part of what it says."""
    details = {"criteria": dict(answer.criteria), "reason": answer.reason, "flag": answer.flag}
    return answer.choice, answer.strength, details


def _revise(
    connection: Connection, project: Project, row: Row[Any], now: float, state: str, **said: Any
) -> int:
    """Adds a revision and moves the assignment to a state; returns the revision's number.

    A skip gives its place in the item up. An answer without one (its lease had run out, or it was skipped
    before) takes one if there is room, and is surplus otherwise.
    """
    number: int = row.revision + 1
    keeps = row.counts and state != "skipped"
    connection.execute(
        insert(revisions).values(
            assignment=row.id, number=number, at=now, guideline=project.guideline, **said
        )
    )
    connection.execute(
        update(assignments)
        .where(assignments.c.id == row.id)
        .values(revision=number, said_at=now, state=state, counts=keeps)
    )
    if not keeps and state != "skipped" and take_place(connection, row, project.settings):
        return number
    if row.kind == "ordinary":
        settle(connection, row.item, project.settings)
    return number


def _hold_to_thresholds(connection: Connection, project: Project, who: Row[Any], now: float) -> None:
    """Pauses an annotator whose answers to checks are too often wrong, until an admin looks at them."""
    settings = project.settings
    right = {kind: rights(connection, who.id, kind, who.judged_from) for kind in ("gold", "attention")}
    gold = right["gold"]
    failed = right["attention"].count(False)
    why = None
    if len(gold) >= settings.judged_after and sum(gold) / len(gold) < settings.pause_below:
        why = f"{sum(gold)} of {len(gold)} gold items right, under pause_below={settings.pause_below:g}"
    elif settings.attention_failures and failed >= settings.attention_failures:
        why = f"{failed} attention checks failed, attention_failures={settings.attention_failures}"
    if why is None or who.paused:
        return
    connection.execute(
        update(annotators).where(annotators.c.id == who.id).values(paused={"reason": LOOKED_AT, "why": why})
    )
    note(connection, now, "paused", {"why": why, "by": "threshold"}, who.id)


def rights(connection: Connection, who: int, kind: str, after: int = 0) -> list[bool]:
    """Whether each of an annotator's answers to items of a kind was right, after the item of a number."""
    found = connection.execute(
        select(revisions.c.choice, assignments.c.first_left, items.c.right_answer)
        .select_from(assignments)
        .join(items, items.c.id == assignments.c.item)
        .join(
            revisions,
            and_(
                revisions.c.assignment == assignments.c.id,
                revisions.c.number == assignments.c.revision,
            ),
        )
        .where(
            assignments.c.annotator == who,
            assignments.c.kind == kind,
            assignments.c.state == "answered",
            assignments.c.number > after,
        )
        .order_by(assignments.c.number)
    )
    return [canonical(row.choice, row.first_left) == row.right_answer for row in found]
