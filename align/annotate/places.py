"""An item's places: who holds one, how many votes there are, and how many are wanted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, insert, select, true, update

from align.annotate.schema import annotators, assignments, events, items, revisions
from align.errors import Refused

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Row

    from align.annotate.settings import AllocationSettings

NO_END = 2**31 - 1
"""What is ``wanted`` of a gold item or an attention check: each annotator may have it once."""


@dataclass(frozen=True)
class Project:
    """What every transaction goes by."""

    settings: AllocationSettings
    secret: str
    strength_of: int | None
    guideline: str | None


def annotator(connection: Connection, name: str) -> Row[Any]:
    """The row of somebody who was let in. Raises ``Refused`` (``unknown_annotator``)."""
    row = connection.execute(select(annotators).where(annotators.c.name == name)).one_or_none()
    if row is None:
        raise Refused("unknown_annotator", f"nobody was enrolled as {name!r}")
    return row


def canonical(choice: str, first_left: bool) -> str:
    """Left and right as the item's own first and second; any other word stays as it is."""
    if choice not in ("left", "right"):
        return choice
    return "first" if (choice == "left") == first_left else "second"


def settle(connection: Connection, item: int, settings: AllocationSettings) -> None:
    """Counts an ordinary item's places and votes anew, and how many it is to have."""
    found = connection.execute(
        select(assignments.c.state, assignments.c.first_left, revisions.c.choice)
        .outerjoin(
            revisions,
            and_(
                revisions.c.assignment == assignments.c.id,
                revisions.c.number == assignments.c.revision,
            ),
        )
        .where(assignments.c.item == item, assignments.c.counts == true())
    ).all()
    votes = Counter(canonical(row.choice, row.first_left) for row in found if row.state == "answered")
    wanted = votes_wanted(votes, settings)
    connection.execute(
        update(items)
        .where(items.c.id == item)
        .values(taken=len(found), votes=votes.total(), wanted=wanted, open=len(found) < wanted)
    )


def votes_wanted(votes: Counter[str], settings: AllocationSettings) -> int:
    """The overlap, and one more at a time while the two most frequent answers lie too close together."""
    count = votes.total()
    if count < settings.overlap or not settings.extra_votes:
        return settings.overlap
    first, second = ([*sorted(votes.values(), reverse=True), 0, 0])[:2]
    if first - second >= settings.vote_margin:
        return max(count, settings.overlap)
    return min(count + 1, settings.overlap + settings.extra_votes)


def free_expired(connection: Connection, now: float, settings: AllocationSettings) -> None:
    """Gives the places of leases that ran out to whoever comes next."""
    late = connection.execute(
        select(assignments.c.id, assignments.c.item, assignments.c.kind).where(
            assignments.c.state == "open", assignments.c.lease_until <= now
        )
    ).all()
    for row in late:
        connection.execute(
            update(assignments).where(assignments.c.id == row.id).values(state="expired", counts=False)
        )
        if row.kind == "ordinary":
            settle(connection, row.item, settings)


def take_place(connection: Connection, row: Row[Any], settings: AllocationSettings) -> bool:
    """Whether an assignment without a place in its item has one now. Gold items have room for everybody."""
    room = connection.execute(select(items.c.open).where(items.c.id == row.item)).scalar_one()
    if row.kind == "repeat" or not room:
        return False
    connection.execute(update(assignments).where(assignments.c.id == row.id).values(counts=True))
    if row.kind == "ordinary":
        settle(connection, row.item, settings)
    return True


def note(
    connection: Connection, now: float, what: str, details: dict[str, Any], who: int | None = None
) -> None:
    """Writes down an event."""
    connection.execute(insert(events).values(at=now, what=what, annotator=who, details=details))
