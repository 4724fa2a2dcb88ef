"""The tables. Answers are only ever added (``revisions``); what else changes can be told from them and the
clock.

Times are seconds since 1970 in UTC. Texts that people or models wrote stand in JSON columns: PostgreSQL's
text refuses the NUL character, its JSON does not.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

SCHEMA_VERSION = 1
"""Version of the tables; a database of another one is refused."""

metadata = MetaData()

facts = Table(
    "align_facts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", JSON, nullable=False),
)
"""What is true of the whole project: the schema's version, the secret behind the draws, the settings it was
last opened with, a pause of everybody."""

items = Table(
    "items",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pair_id", String, nullable=False, unique=True),
    Column("prompt_id", String, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("prompt", JSON, nullable=False),
    Column("replies", JSON, nullable=False),
    Column("right_answer", String(8)),
    Column("source", JSON, nullable=False),
    Column("votes", Integer, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("open", Boolean, nullable=False),
    # which item is next is read from this index alone, in its order; and so is how far the project is
    Index("items_next", "kind", "open", "taken", "id", "votes", "wanted"),
)
"""Pairs in their canonical order. ``source`` is what is known of where they came from, earlier judgements
among it: hidden from annotators. ``votes`` counts the answers that count, ``taken`` these and the open
leases, ``wanted`` how many there are to be; ``open``: taken < wanted (always, for gold and attention)."""

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("enrolled_at", Double, nullable=False),
    Column("paused", JSON),
    Column("judged_from", Integer, nullable=False),
)
"""``paused`` is null or {"reason": shown to the annotator, "why": shown to admins}; gold items and checks up
to the number ``judged_from`` were forgiven when an admin let the annotator go on."""

assignments = Table(
    "assignments",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("item", ForeignKey("items.id"), nullable=False),
    Column("annotator", ForeignKey("annotators.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("first_left", Boolean, nullable=False),
    Column("state", String(8), nullable=False),
    Column("counts", Boolean, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("said_at", Double),
    UniqueConstraint("annotator", "number"),
    Index("assignments_seen", "annotator", "item"),
    Index("assignments_kind", "annotator", "kind", "number"),
    Index("assignments_state", "annotator", "state", "number"),
    Index("assignments_item", "item", "state"),
    Index("assignments_lease", "state", "lease_until"),
)
"""Who was given what. ``kind`` is the item's, or ``repeat``. ``state`` is open, expired, answered or skipped;
``counts`` says whether it holds one of the item's places (``taken``); ``revision`` is the latest one's
number, 0 before the first, and ``said_at`` its time."""

revisions = Table(
    "revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment", ForeignKey("assignments.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("key", String(64)),
    Column("at", Double, nullable=False),
    Column("choice", String(8), nullable=False),
    Column("strength", Integer),
    Column("strength_of", Integer),
    Column("seconds", Double),
    Column("guideline", String(80)),
    Column("details", JSON, nullable=False),
    UniqueConstraint("assignment", "number"),
    UniqueConstraint("assignment", "key"),
)
"""What was said, as it was said (left, right, tie, both_bad, skip) or ``undone``: only ever added to."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("what", String(20), nullable=False),
    Column("annotator", ForeignKey("annotators.id")),
    Column("details", JSON, nullable=False),
)
"""What an admin did, and what a threshold led to."""
