"""What the desk promises, in short here and at full length behind the marker: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from desks import Clock, Office, open_desk, pair
from sqlalchemy import create_engine, text

from align.annotate.database import Database, set_fact
from align.types import PreferenceRecord
from experiments.annotate.bulk import bulk
from experiments.annotate.kills import survive
from experiments.annotate.load import load
from experiments.annotate.postgres import private_postgres, programs
from experiments.annotate.race import race


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of this file's own."""
    if programs() is None:
        pytest.skip("no PostgreSQL here: initdb is neither on the PATH nor where packages put it")
    with private_postgres() as url:
        yield url


@pytest.fixture
def empty(postgres: str) -> str:
    """The same, with nothing in it."""
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres


def _a_day(url: str) -> list[PreferenceRecord]:
    """All that can happen at a desk, once; the records less what is random."""
    database = Database(url)
    database.write(lambda connection: set_fact(connection, "secret", "7a" * 32))
    database.close()
    clock = Clock()
    settings = {"overlap": 2, "extra_votes": 1, "gold_share": 0.2, "repeat_share": 0.2, "repeat_distance": 3}
    with closing(open_desk(url, clock, attention_share=0.1, **settings)) as desk:
        here = Office(desk, clock, Path())
        desk.add_items(pair(number) for number in [*range(1, 31), 7])
        desk.add_items((pair(number) for number in range(1001, 1005)), "gold")
        here.enrol("ann", "bob", "bob", "cid")
        here.work("ann", 12)
        here.work("bob", 12, "second")
        here.say("cid", here.ask("cid"), "tie", reason="nul \0, half \U0001f600", flag="x", seconds=2.5)
        here.say("cid", here.ask("cid"), "skip")
        here.prefer("cid", desk.undo("cid"), "second", strength=3)
        late = here.ask("cid")
        clock.pass_minutes(40)
        here.work("ann", 6)
        here.prefer("cid", late, "first")
        desk.pause("so", "bob")
        desk.resume("bob")
        assert desk.progress("ann").done == 18
        found = list(desk.export(checks=True))
        assert len(found) == 12 + 12 + 2 + 6 + 1
        return [replace(record, id=record.id.split("-")[0]) for record in found]


@pytest.mark.medium
def test_postgresql_keeps_what_sqlite_keeps(empty: str, tmp_path: Path) -> None:
    assert _a_day(empty) == _a_day(f"sqlite:///{tmp_path / 'a.sqlite'}")


@pytest.mark.medium
def test_postgresql_waits_for_the_disk_whatever_it_was_told(empty: str) -> None:
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.execute(text("ALTER DATABASE postgres SET synchronous_commit = off"))
    database = Database(empty)
    try:
        asked = "SHOW synchronous_commit"
        with database.reading() as connection:
            assert connection.exec_driver_sql(asked).scalar() == "off", "the test has no effect otherwise"
        assert database.write(lambda connection: connection.exec_driver_sql(asked).scalar()) == "on"
    finally:
        database.close()
        with engine.begin() as connection:
            connection.execute(text("ALTER DATABASE postgres RESET synchronous_commit"))
        engine.dispose()


def _refuse_any_excess(found: object, items: int, overlap: int) -> None:
    assert found.answers_per_item == {overlap: items}  # type: ignore[attr-defined]
    assert found.doubled == 0  # type: ignore[attr-defined]
    assert found.kept == items * overlap  # type: ignore[attr-defined]
    assert found.sent == 3 * items * overlap  # type: ignore[attr-defined]


@pytest.mark.medium
def test_a_race_ends_with_exactly_the_overlap(tmp_path: Path) -> None:
    _refuse_any_excess(race(str(tmp_path / "a.sqlite"), annotators=60, items=10, overlap=3), 10, 3)


@pytest.mark.medium
def test_a_race_on_postgresql(empty: str) -> None:
    _refuse_any_excess(race(empty, annotators=30, items=10, overlap=3), 10, 3)


@pytest.mark.slow
def test_two_hundred_annotators_race(tmp_path: Path) -> None:
    _refuse_any_excess(race(str(tmp_path / "a.sqlite"), annotators=200, items=10, overlap=3), 10, 3)
    found = race(str(tmp_path / "b.sqlite"), annotators=200, items=600, overlap=3, limit=10)
    _refuse_any_excess(found, 600, 3)


@pytest.mark.slow
def test_two_hundred_annotators_race_on_postgresql(empty: str) -> None:
    _refuse_any_excess(race(empty, annotators=200, items=10, overlap=3), 10, 3)


@pytest.mark.medium
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = survive(tmp_path, database=None, kills=2, clients=10, answers_between=20)
    assert (found.lost, found.doubled, found.crowded, found.failures) == (0, 0, 0, ())
    assert found.acknowledged >= 60
    assert found.cut >= 2


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    found = survive(tmp_path, database=None, kills=20, clients=50, answers_between=50)
    assert (found.lost, found.doubled, found.crowded, found.failures) == (0, 0, 0, ())
    assert found.acknowledged >= 21 * 50


@pytest.mark.slow
def test_kills_on_postgresql_lose_nothing(empty: str, tmp_path: Path) -> None:
    found = survive(tmp_path, database=empty, kills=5, clients=20, answers_between=20)
    assert (found.lost, found.doubled, found.crowded, found.failures) == (0, 0, 0, ())


@pytest.mark.slow
def test_a_crowd_at_its_own_pace_sees_no_error(tmp_path: Path) -> None:
    found = load(tmp_path, str(tmp_path / "a.sqlite"), annotators=200, rate=10, seconds=20)
    assert (found.errors, found.answers) == (0, 200)


@pytest.mark.slow
def test_many_items_are_added_and_served(tmp_path: Path) -> None:
    found = bulk(tmp_path, str(tmp_path / "a.sqlite"), items=20_000, serves=100)
    assert (found.items, found.serves) == (20_000, 100)
