"""Who may come in: accounts with a role, personal links, passwords, people whom a crowd platform sends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
from sqlalchemy import insert, select, update

from align.annotate import passwords
from align.annotate.accounts_schema import accounts, links
from align.errors import Refused

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from align.annotate.desk import Desk
    from align.annotate.seals import Seals

Role = Literal["annotator", "admin"]
NAME_LENGTH = 100
ID_LENGTH = 200
"""Characters of a name, and of an id that a platform sends, at most."""

PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "prolific": ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"),
    "mturk": ("workerId", "assignmentId", "hitId"),
}
"""What each platform puts into the address, who it is first: only that one makes the pseudonym, so that
somebody who takes part twice is known again."""


@dataclass(frozen=True)
class Account:
    """Somebody who may come in."""

    id: str
    role: Role
    name: str
    annotator: str | None
    """The pseudonym at the desk; None for an admin."""
    epoch: int
    has_password: bool
    closed: bool


class Accounts:
    """Makes and finds accounts. Safe for many threads; blocking, but for ``find``."""

    def __init__(self, desk: Desk, seals: Seals) -> None:
        self._desk, self._database = desk, desk.database
        self._seals = seals
        self._known: dict[str, Account | None] = {}
        self._lock = threading.Lock()

    async def find(self, account_id: str) -> Account | None:
        """An open account by its id; asked at every request, so it is remembered."""
        with self._lock:
            if account_id in self._known:
                return self._known[account_id]
        return await anyio.to_thread.run_sync(self._look_up, account_id)

    def everybody(self) -> list[Account]:
        """All accounts in the order in which they were made, closed ones included."""
        with self._database.reading() as connection:
            rows = connection.execute(select(accounts).order_by(accounts.c.made_at, accounts.c.id)).all()
        return [_account(row) for row in rows]

    def invite(self, role: Role, name: str) -> str:
        """A new personal link's token for the account of this name, which is made where there is none.

        Earlier links stay good. Raises ``Refused`` (``bad_name``) where the name has another role, was
        closed, or cannot be used.
        """
        account = self._named(role, name)
        if account.closed:
            raise Refused("bad_name", f"'{account.name}' was closed: give another name")
        return self._linked(account.id)

    def study_link(self) -> str:
        """A new token for the link that a crowd platform sends its people to."""
        return self._linked(None)

    def enter(self, token: str) -> Account | None:
        """Whose personal link this is; None where it is nobody's."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(accounts)
                .join(links, links.c.account == accounts.c.id)
                .where(links.c.hash == passwords.token_hash(token), links.c.closed_at.is_(None))
            ).first()
        return _open(row)

    def join(self, token: str, platform: str, ids: Mapping[str, str]) -> Account | None:
        """The account of somebody whom a platform sends, made at the first time; None with a wrong link.

        What the platform calls people is kept nowhere: only a keyed hash of it. Raises ``Refused``
        (``bad_ids``) where the address does not hold the platform's ids.
        """
        with self._database.reading() as connection:
            known = connection.execute(
                select(links.c.hash).where(
                    links.c.hash == passwords.token_hash(token),
                    links.c.account.is_(None),
                    links.c.closed_at.is_(None),
                )
            ).first()
        if known is None:
            return None
        expected = PLATFORMS[platform]
        if not all(0 < len(ids.get(name, "")) <= ID_LENGTH for name in expected):
            raise Refused("bad_ids", f"the address must hold {', '.join(expected)}")
        pseudonym = self._seals.pseudonym(platform, ids[expected[0]])
        found = self._named("annotator", f"{platform}-{pseudonym}", pseudonym)
        return None if found.closed else found

    def log_in(self, name: str, password: str) -> Account | None:
        """Whose name and password these are; takes as long for a name that nobody has."""
        with self._database.reading() as connection:
            row = connection.execute(select(accounts).where(accounts.c.name == name[:NAME_LENGTH])).first()
        fits = passwords.fits(password, row.password if row is not None else None)
        return _open(row) if fits else None

    def set_password(self, account: Account, password: str) -> Account:
        """Sets a password; every session of before ends. Raises ``Refused`` (``bad_password``)."""
        problem = passwords.problem(password, account.name)
        if problem is not None:
            raise Refused("bad_password", problem)
        return self._change(account.id, password=passwords.hashed(password))

    def close(self, account_id: str) -> None:
        """Ends an account's sessions, links and password; what it answered stays."""
        self._change(account_id, closed_at=_now())

    def _change(self, account_id: str, **values: Any) -> Account:
        mine = accounts.c.id == account_id

        def write(connection: Connection) -> Row[Any]:
            connection.execute(update(accounts).where(mine).values(epoch=accounts.c.epoch + 1, **values))
            return connection.execute(select(accounts).where(mine)).one()

        row: Row[Any] = self._database.write(write)
        with self._lock:
            self._known[account_id] = _open(row)
        return _account(row)

    def _look_up(self, account_id: str) -> Account | None:
        with self._database.reading() as connection:
            row = connection.execute(select(accounts).where(accounts.c.id == account_id)).first()
        with self._lock:
            # a change that came in between has the last word; ids come out of signed cookies only
            return self._known.setdefault(account_id, _open(row))

    def _named(self, role: Role, name: str, pseudonym: str | None = None) -> Account:
        name = name.strip()
        if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
            raise Refused("bad_name", f"a name has 1 to {NAME_LENGTH} characters, all printable")
        annotator = pseudonym or self._seals.pseudonym("name", name) if role == "annotator" else None

        def write(connection: Connection) -> Account:
            row = connection.execute(select(accounts).where(accounts.c.name == name)).first()
            if row is None:
                values = {
                    "id": secrets.token_hex(8),
                    "role": role,
                    "name": name,
                    "annotator": annotator,
                    "epoch": 1,
                    "made_at": _now(),
                }
                connection.execute(insert(accounts).values(values))
                row = connection.execute(select(accounts).where(accounts.c.name == name)).one()
            return _account(row)

        found: Account = self._database.write(write)
        if found.role != role:
            raise Refused("bad_name", f"'{name}' is {found.role} here: give another name")
        if found.annotator is not None:
            self._desk.enrol(found.annotator)
        return found

    def _linked(self, account_id: str | None) -> str:
        token = passwords.new_token()
        values = {"hash": passwords.token_hash(token), "account": account_id, "made_at": _now()}
        self._database.write(lambda connection: connection.execute(insert(links).values(values)))
        return token


def _open(row: Row[Any] | None) -> Account | None:
    return None if row is None or row.closed_at else _account(row)


def _account(row: Row[Any]) -> Account:
    return Account(
        id=row.id,
        role=row.role,
        name=row.name,
        annotator=row.annotator,
        epoch=row.epoch,
        has_password=row.password is not None,
        closed=row.closed_at is not None,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
