"""Tables of who may come in. They stand beside the desk's, on the same metadata, so that it makes them."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table

from align.annotate.schema import metadata

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("role", String(16), nullable=False),
    # what an admin calls somebody; never exported
    Column("name", String(200), nullable=False, unique=True),
    # the pseudonym that records carry; none for an admin
    Column("annotator", String(64), unique=True),
    Column("password", String(200)),
    # grows when sessions of before must end
    Column("epoch", Integer, nullable=False),
    Column("made_at", String(40), nullable=False),
    Column("closed_at", String(40)),
)

links = Table(
    "links",
    metadata,
    # SHA-256 of a random token: the link itself is nowhere
    Column("hash", String(64), primary_key=True),
    # none for a study's link, which makes an account for each who comes by it
    Column("account", String(32), ForeignKey("accounts.id")),
    Column("made_at", String(40), nullable=False),
    Column("closed_at", String(40)),
)
