"""The nouns of annotation: what the desk hands out, what it is given, what it tells an admin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from align.errors import Refused
from align.types import Preferred, Prompt

Kind = Literal["ordinary", "gold", "attention"]
"""What an item is for: votes, a known answer that looks like any other item, or a check that says its own."""
Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie", "both_bad", "skip"]
"""What an annotator can answer, in the annotator's own view of the sides."""
Said = Literal["first", "second", "tie", "both_bad", "skip", "undone"]
"""A revision in canonical terms: the sides are the item's own, whatever stood on the left."""
Place = Literal["first", "second", "tie"]
"""The same of one criterion."""

REASON_LENGTH = 4000
"""Characters of a reason in one's own words, at most."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Task:
    """One item as one annotator sees it: nothing tells which reply was first, or what the item is for."""

    assignment: str
    """Opaque and random; what an ``Answer`` refers to."""
    prompt: Prompt
    left: str
    right: str
    number: int
    """Which of this annotator's items it is, from 1."""
    can_undo: bool
    """Whether there is an answer of this annotator that ``Desk.undo`` would take back."""


@dataclass(frozen=True)
class Answer:
    """What an annotator said of one task. Raises ``Refused`` (``bad_answer``) where it makes no answer."""

    assignment: str
    key: str
    """Made by the browser for each answer, so that a retry is known as one: 1 to 64 of [A-Za-z0-9_-]."""
    choice: Choice
    strength: int | None = None
    """How strongly, from 1 (hardly); only with a side."""
    criteria: Mapping[str, Literal["left", "right", "tie"]] = field(default_factory=dict)
    reason: str = ""
    flag: str | None = None
    """Why the item should be looked at, in one word or a few."""
    seconds: float | None = None
    """From seeing the item to answering, as the browser measured it."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise Refused("bad_answer", "key is 1 to 64 of letters, digits, _ and -")
        if self.choice not in get_args(Choice):
            raise Refused("bad_answer", f"choice is one of {', '.join(get_args(Choice))}")
        if self.strength is not None and (self.choice not in get_args(Side) or not 1 <= self.strength <= 9):
            raise Refused("bad_answer", "strength is a step from 1 on, of a side that was chosen")
        if any(value not in ("left", "right", "tie") for value in self.criteria.values()):
            raise Refused("bad_answer", "a criterion is answered with left, right or tie")
        if self.seconds is not None and not 0 <= self.seconds < 1e7:
            raise Refused("bad_answer", "seconds is a time from 0 on")
        if len(self.reason) > REASON_LENGTH or len(self.flag or "") > REASON_LENGTH:
            raise Refused("bad_answer", f"a reason has {REASON_LENGTH} characters at most")
        for text in (self.reason, self.flag or "", *self.criteria):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise Refused("bad_answer", "the text holds half a character") from None


@dataclass(frozen=True)
class Receipt:
    """The answer is on disk."""

    assignment: str
    revision: int
    """1 for the first answer of an assignment; each change or undo is one more."""


@dataclass(frozen=True)
class Progress:
    """How far one annotator is, skipped items and checks included: they look like all others."""

    done: int
    total: int
    left: int
    """Items that could still be served: others may take them first, so it can fall by more than one."""


@dataclass(frozen=True)
class Finished:
    """There is nothing (more) for this annotator; ``code`` is what a crowd platform pays by."""

    code: str | None = None


@dataclass(frozen=True)
class Paused:
    """This annotator, or everybody, is not served for now."""

    reason: str


@dataclass(frozen=True)
class Vote:
    """The current answer of one assignment in canonical terms, for statistics and the admin pages."""

    assignment: str
    pair_id: str
    annotator: str
    kind: Kind
    repeat: bool
    """The annotator had seen this item before: for self-consistency, no further vote on the pair."""
    surplus: bool
    """Came after its lease had gone to somebody else: kept, but no vote on the pair."""
    said: Said
    """``undone`` where the last answer was taken back and no other has come."""
    left: Literal["first", "second"]
    """Which of the item's replies stood on the left."""
    right_answer: Preferred | None
    """The known answer of a gold item or an attention check."""
    strength: int | None
    criteria: Mapping[str, Place]
    reason: str
    flag: str | None
    seconds: float | None
    asked_at: str
    judged_at: str
    """ISO 8601 in UTC, as in a record."""
    revision: int
    number: int
    """Which of the annotator's items it was, from 1."""

    def shown(self) -> str:
        """What was said as the annotator saw it: left or right instead of first or second."""
        if self.said not in ("first", "second"):
            return self.said
        return "left" if self.said == self.left else "right"

    def left_chosen(self) -> bool | None:
        """Whether the left side was preferred; None where no side was."""
        return self.said == self.left if self.said in ("first", "second") else None


@dataclass(frozen=True)
class AnnotatorStatus:
    """One annotator, as an admin sees it."""

    name: str
    """The pseudonym that records carry."""
    paused: str | None
    """Why, where the annotator is paused."""
    enrolled_at: str
    served: int
    answered: int
    skipped: int
    gold_right: int
    gold_answered: int
    attention_failed: int
    attention_answered: int


@dataclass(frozen=True)
class ProjectStatus:
    """The whole project, as an admin sees it."""

    items: Mapping[Kind, int]
    complete: int
    """Ordinary items that have all the votes they need."""
    votes: int
    """Answers that count on ordinary items."""
    wanted: int
    """Votes needed in all, as far as is known: disagreement may add to them."""
    open: int
    """Items that annotators have before them now."""
    paused: str | None


@dataclass(frozen=True)
class Event:
    """Something that an admin did, or that a threshold led to."""

    at: str
    what: str
    """``imported``, ``enrolled``, ``paused``, ``resumed``, ``settings``."""
    annotator: str | None
    details: Mapping[str, object]


@dataclass(frozen=True)
class Imported:
    """What became of items that were to be added."""

    added: int
    refused: Mapping[str, int]
    """Reason (``duplicate``, ``same_replies``, ``empty_reply`` ...) -> how many."""


@dataclass(frozen=True)
class LeftOut:
    """Answers that an export leaves out, and why: it is a count of assignments for each."""

    skipped: int = 0
    undone: int = 0
    checks: int = 0
    """On gold items and attention checks."""
    repeats: int = 0
    surplus: int = 0
