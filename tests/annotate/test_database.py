"""The database: on disk before anybody hears of it, one's failure not another's, read beside the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from desks import memory_folder
from sqlalchemy import Connection, event, select

from align.annotate.database import Database, fact, set_fact
from align.annotate.schema import facts
from align.errors import Refused, StoreError


@pytest.fixture
def database() -> Iterator[Database]:
    with memory_folder() as folder:
        opened = Database(folder / "a.sqlite")
        yield opened
        opened.close()


def _commits(database: Database) -> list[str]:
    """Grows with each commit."""
    found: list[str] = []
    event.listen(database._engine, "commit", lambda connection: found.append("commit"))
    return found


class _Held:
    """Keeps the writer busy, so that what is asked meanwhile waits together."""

    def __init__(self, database: Database) -> None:
        self._free, self._busy = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=database.write, args=(self._job,))

    def _job(self, connection: Connection) -> None:
        self._busy.set()
        assert self._free.wait(10)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._busy.wait(10)

    def __exit__(self, *_: object) -> None:
        self._free.set()
        self._thread.join()


def _write(name: str) -> object:
    return lambda connection: set_fact(connection, name, True)


def _names(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.execute(select(facts.c.name)).scalars()) - {"schema_version", "secret"}


def _together(database: Database, jobs: list[object]) -> list[object]:
    """Gives the writer jobs that wait together; returns what each returned or raised."""

    def ask(job: object) -> object:
        try:
            return database.write(job)  # type: ignore[arg-type]
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        with _Held(database):
            asked = [pool.submit(ask, job) for job in jobs]
            while database._jobs.qsize() < len(jobs):
                pass
        return [one.result() for one in asked]


def test_what_waits_together_is_committed_together(database: Database) -> None:
    commits = _commits(database)
    _together(database, [_write(f"fact {number}") for number in range(50)])
    assert len(_names(database)) == 50
    assert len(commits) == 2, "the one that held the writer, and one for the fifty"


def test_nobody_hears_of_it_before_it_is_on_disk(database: Database) -> None:
    heard = threading.Event()
    too_early = []
    event.listen(database._engine, "commit", lambda connection: too_early.append(heard.wait(0.05)))
    database.write(_write("a"))  # type: ignore[arg-type]
    heard.set()
    assert too_early == [False]


def test_a_refusal_takes_back_its_own_writes_alone(database: Database) -> None:
    def refuse(connection: Connection) -> None:
        set_fact(connection, "refused", True)
        raise Refused("bad_answer")

    commits = _commits(database)
    found = _together(database, [_write("a"), refuse, _write("b")])
    assert [type(one) for one in found] == [type(None), Refused, type(None)]
    assert _names(database) == {"a", "b"}
    assert len(commits) == 2


def test_a_failure_takes_nobody_along(database: Database) -> None:
    def fail(connection: Connection) -> None:
        set_fact(connection, "failed", True)
        raise ZeroDivisionError

    found = _together(database, [_write("a"), fail, _write("b")])
    assert [type(one) for one in found] == [type(None), ZeroDivisionError, type(None)]
    assert _names(database) == {"a", "b"}


def test_a_transaction_that_the_database_ended_is_not_acknowledged(database: Database) -> None:
    """A full disk makes SQLite roll everything back in the middle: what went before must be done again."""

    def end(connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")

    found = _together(database, [_write("a"), end, _write("b")])
    assert found[0] is None
    assert isinstance(found[1], StoreError)
    assert found[2] is None
    assert _names(database) == {"a", "b"}


def test_readers_wait_for_no_writer(database: Database) -> None:
    database.write(_write("a"))  # type: ignore[arg-type]
    with _Held(database):
        assert _names(database) == {"a"}


def test_a_reader_sees_one_state(database: Database) -> None:
    with database.reading() as connection:
        assert fact(connection, "a") is None
        database.write(_write("a"))  # type: ignore[arg-type]
        assert fact(connection, "a") is None
    assert _names(database) == {"a"}


def test_two_writers_of_one_database_lose_nothing(database: Database) -> None:
    """As two processes would: each job reads and writes alone, whoever else has the file open."""

    def count(connection: Connection) -> None:
        set_fact(connection, "count", (fact(connection, "count") or 0) + 1)

    other = Database(database.url)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: (database, other)[number % 2].write(count), range(100)):
            pass
    other.close()
    with database.reading() as connection:
        assert fact(connection, "count") == 100


def test_every_commit_waits_for_the_disk(database: Database) -> None:
    def settings(connection: Connection) -> tuple[object, object]:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        ]
        return found[0], found[1]

    assert database.write(settings) == ("wal", 2)


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite")
    database.close()
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.write(_write("a"))  # type: ignore[arg-type]


def test_another_version_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("UPDATE align_facts SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StoreError, match="tables of version 99, this align reads 1: "):
        Database(tmp_path / "a.sqlite")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("CREATE TABLE items (name TEXT)")
    with pytest.raises(StoreError, match="a table 'items' of another program"):
        Database(tmp_path / "a.sqlite")
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("items",)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "a database in memory keeps nothing"),
        ("mysql://somewhere/x", "SQLite .* or PostgreSQL"),
        ("post gres://x", "is no address of a database"),
        ("postgresql+nodriver://x/y", "is no address of a database"),
        ("postgresql+psycopg://name:word@127.0.0.1:1/x", r"name:\*\*\*@127.0.0.1:1/x cannot be used: "),
    ],
)
def test_what_is_no_database_is_said_in_a_line(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as raised:
        Database(url)
    assert "word" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be taken for one\n" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Database(tmp_path / "notes.txt")
