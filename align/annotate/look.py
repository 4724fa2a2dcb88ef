"""One item as an admin may see it: both replies, who wrote them, and what everybody said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from align.annotate.schema import items
from align.annotate.types import Kind, Vote
from align.types import Message, Preferred, Prompt


@dataclass(frozen=True)
class Seen:
    """An item with the answers to it; everything in the item's own order of the replies."""

    pair_id: str
    kind: Kind
    prompt: Prompt
    replies: tuple[str, str]
    models: tuple[str | None, str | None]
    right_answer: Preferred | None
    wanted: int | None
    """Votes that an ordinary item is to have."""
    answers: tuple[Vote, ...]


def look(connection: Connection, pair_id: str, votes: Sequence[Vote]) -> Seen | None:
    """The item of a pair, with those of the votes that are on it; None where there is no such item."""
    row = connection.execute(select(items).where(items.c.pair_id == pair_id)).first()
    if row is None:
        return None
    first, second = row.replies
    return Seen(
        pair_id=pair_id,
        kind=row.kind,
        prompt=tuple(Message(turn["role"], turn["content"]) for turn in row.prompt),
        replies=(first["text"], second["text"]),
        models=(first["model"], second["model"]),
        right_answer=row.right_answer,
        wanted=row.wanted if row.kind == "ordinary" else None,
        answers=tuple(vote for vote in votes if vote.pair_id == pair_id),
    )
