"""The database: opened, checked for its version, written by one thread in groups, read beside that."""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from align.annotate.schema import SCHEMA_VERSION, facts, metadata
from align.errors import AlignError, StoreError

T = TypeVar("T")
_Waiting = tuple[Callable[[Connection], Any], "Future[Any]"]

_GROUP = 256
"""Jobs of one transaction, at most: each waits for the slowest of its group."""
_READERS = 20
"""Connections that read at the same time; whoever comes then waits for one."""
_BUSY_SECONDS = 60
_LOCK = 0x616C6967
"""PostgreSQL's advisory lock that one writing transaction holds at a time, over all processes."""


class Database:
    """An engine for readers, and the one thread that writes.

    A job is a function of a connection. Jobs that wait together are run one after the other in one
    transaction and committed by one flush to the disk; only then do their callers get their answers. One that
    refuses is taken back alone. Every writing transaction has the database to itself, whichever process it is
    in, so a job may read, decide and write.
    """

    def __init__(self, url: str | Path) -> None:
        """Opens the database and makes the tables that are not there.

        Raises:
            StoreError: it cannot be reached, or its tables are of another version or another program.
        """
        self.url = _url(url)
        # apart, so that readers who wait for the writer never hold what it needs
        self._engine = _engine(self.url, 1, "BEGIN IMMEDIATE")
        self._readers = _engine(self.url, _READERS, "BEGIN")
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        try:
            with self._transaction() as connection:
                _prepare(connection)
        except SQLAlchemyError as error:
            self._dispose()
            raise StoreError(f"the database {_shown(self.url)} cannot be used: {_cause(error)}") from error
        except StoreError:
            self._dispose()
            raise
        self._thread = threading.Thread(target=self._work, name="annotate-writer", daemon=True)
        self._thread.start()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database; it waits for no writer, and no writer for it."""
        with self._readers.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def write(self, job: Callable[[Connection], T]) -> T:
        """Runs a job in the writer's next transaction; returns what it returned, once that is on disk.

        Raises:
            StoreError: the database is closed, or could not keep it.
        """
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StoreError("the database of annotations is closed")
            self._jobs.put((job, done))
        return done.result()

    def close(self) -> None:
        """Waits for the jobs that were given, then closes."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()
        self._dispose()

    def _work(self) -> None:
        open_for_jobs = True
        while open_for_jobs:
            group = [self._jobs.get()]
            while len(group) < _GROUP:
                try:
                    group.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            open_for_jobs = None not in group
            self._run_group([entry for entry in group if entry is not None])

    def _run_group(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            self._run_alone(*group[0])
            return
        try:
            with self._transaction() as connection:
                outcomes = [_attempt(connection, job) for job, _ in group]
        except Exception:
            # nothing was kept, and SQLite may have ended the transaction in the middle: whoever is at fault
            # must not take the others along
            for one in group:
                self._run_alone(*one)
            return
        for (_, done), (result, refusal) in zip(group, outcomes, strict=True):
            if refusal is None:
                done.set_result(result)
            else:
                done.set_exception(refusal)

    def _run_alone(self, job: Callable[[Connection], Any], done: Future[Any]) -> None:
        try:
            with self._transaction() as connection:
                result = job(connection)
        except Exception as error:
            done.set_exception(self._as_ours(error))
        else:
            done.set_result(result)

    def _as_ours(self, error: Exception) -> Exception:
        if not isinstance(error, SQLAlchemyError):
            return error
        ours = StoreError(f"the database {_shown(self.url)} did not keep it: {_cause(error)}")
        ours.__cause__ = error
        return ours

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """The database to oneself until the commit."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # whatever the server's own setting is, a commit waits for the disk
                durable = "SELECT set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock(:lock)"
                connection.execute(text(durable), {"lock": _LOCK})
            yield connection
            if connection.dialect.name == "sqlite" and not _is_open(connection):
                raise StoreError(f"the database {_shown(self.url)} ended a transaction by itself")

    def _dispose(self) -> None:
        self._engine.dispose()
        self._readers.dispose()


def _attempt(connection: Connection, job: Callable[[Connection], T]) -> tuple[T | None, AlignError | None]:
    """What a job returned, or how it refused; a refusal takes back what the job had written."""
    try:
        with connection.begin_nested():
            return job(connection), None
    except AlignError as refusal:
        return None, refusal


def _is_open(connection: Connection) -> bool:
    """Whether SQLite's transaction still stands; a commit would not complain that it does not."""
    driver = connection.connection.driver_connection
    return driver is not None and driver.in_transaction


def fact(connection: Connection, name: str) -> Any:
    """A fact of the project, None where there is none of that name."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar()


def set_fact(connection: Connection, name: str, value: Any) -> None:
    """Writes a fact anew."""
    connection.execute(facts.delete().where(facts.c.name == name))
    connection.execute(insert(facts).values(name=name, value=value))


def new_secret() -> str:
    """What a project's draws are made from: 32 bytes in hexadecimal digits."""
    return secrets.token_hex(32)


def _url(url: str | Path) -> str:
    if isinstance(url, Path):
        return f"sqlite:///{url.resolve()}"
    return url if "://" in url else f"sqlite:///{Path(url).resolve()}"


def _engine(url: str, connections: int, begin: str) -> Engine:
    """An engine of so many connections, which are kept; ``begin`` is how SQLite starts a transaction."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise StoreError(
                f"database={_shown(url)}: SQLite (a file's path) or PostgreSQL (postgresql+psycopg://...)"
            )
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(url, parsed.database, connections, begin)
        return create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            # whatever the server's own setting is: a stricter one looks before it has the lock
            isolation_level="READ COMMITTED",
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"database={_shown(url)} needs {error.name}: pip install 'align[postgres]', "
            "and write postgresql+psycopg://..."
        ) from error
    except ArgumentError as error:
        raise StoreError(f"database={_shown(url)} is no address of a database") from error


def _sqlite(url: str, path: str | None, connections: int, begin: str) -> Engine:
    if not path or path == ":memory:":
        raise StoreError("a database in memory keeps nothing: give database=sqlite:///FILE")
    if not path.startswith("file:"):
        _make(Path(path))
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_SECONDS},
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # answers and names are nothing for a log
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the module opens no transactions of its own: see _begun
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"the database {_shown(url)} lies where SQLite has no write-ahead log: move it")
        for setting in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # a transaction that reads first and writes later is refused when another wrote in between
        connection.exec_driver_sql(begin)

    return engine


def _make(path: Path) -> None:
    """The file, for its owner alone where it is new: it holds people's names and hashes of passwords."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"the database {path} cannot be used: {error.strerror}") from error


def _prepare(connection: Connection) -> None:
    """Holds what is there against the version, and makes what is not."""
    there = set(inspect(connection).get_table_names())
    if facts.name not in there and there & set(metadata.tables):
        clash = sorted(there & set(metadata.tables))[0]
        raise StoreError(f"the database has a table {clash!r} of another program: give another database")
    if facts.name in there:
        version = fact(connection, "schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the database has tables of version {version}, this align reads {SCHEMA_VERSION}: "
                "open it with the align that made it, export, and import the records here"
            )
    metadata.create_all(connection)
    if facts.name not in there:
        set_fact(connection, "schema_version", SCHEMA_VERSION)
        set_fact(connection, "secret", new_secret())


def _shown(url: str) -> str:
    """The address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _cause(error: BaseException) -> str:
    """One line of what the driver said."""
    said = getattr(error, "orig", None) or error
    return str(said).strip().splitlines()[0] if str(said).strip() else type(said).__name__
