"""When a report is made anew, and that making it keeps nobody waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import pairs
from sqlalchemy import Connection

from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from align.annotate.snapshot import LEAST_AGE, Reports
from align.annotate.types import Answer, Task
from align.stages._annotate import results_of


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path / "a.sqlite", AllocationSettings())
    found.add_items(pairs(30))
    found.enrol("ann")
    yield found
    found.close()


def _answer(desk: Desk, key: str) -> None:
    task = desk.serve("ann")
    assert isinstance(task, Task)
    desk.submit("ann", Answer(task.assignment, key, "tie"))


def test_a_report_is_kept_while_it_holds(desk: Desk) -> None:
    """The same object while nothing has happened, or for some seconds; then, or when asked, a new one."""
    now = [0.0]
    reports = Reports(desk.database, desk.settings, clock=lambda: now[0])
    first = reports.newest()
    now[0] += 1000
    assert reports.newest() is first
    _answer(desk, "a")
    second = reports.newest()
    assert (first.report.status.votes, second.report.status.votes) == (0, 1)
    _answer(desk, "b")
    now[0] += LEAST_AGE * 0.9
    assert reports.newest() is second
    now[0] += LEAST_AGE * 0.2
    assert reports.newest().report.status.votes == 2
    _answer(desk, "c")
    reports.forget()
    assert reports.newest().report.status.votes == 3


def test_nobody_waits_for_a_report(desk: Desk) -> None:
    """A report is read while a write is under way, and a write is kept while a report is being read."""
    reports = Reports(desk.database, desk.settings)
    seen = []

    def job(connection: Connection) -> None:
        seen.append(reports.newest().report.status.votes)

    desk.database.write(job)
    assert seen == [0]
    with desk.database.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM items").scalar()
        started = time.perf_counter()
        _answer(desk, "a")
        assert time.perf_counter() - started < 5
    reports.forget()
    assert reports.newest().report.status.votes == 1


def test_the_stage_ends_with_the_same_numbers(tmp_path: Path) -> None:
    """Ann and Ben say tie, then Ben skips: one of one pair agrees; kappa of ties is 0/0, left out."""
    desk = Desk(tmp_path / "b.sqlite", AllocationSettings(overlap=2))
    desk.add_items(pairs(2))
    for name, choices in {"ann": ("tie", "tie"), "ben": ("tie", "skip")}.items():
        desk.enrol(name)
        for number, choice in enumerate(choices):
            task = desk.serve(name)
            assert isinstance(task, Task)
            desk.submit(name, Answer(task.assignment, f"{number}", choice))  # type: ignore[arg-type]
    found = {one.metric: (one.value, one.n) for one in results_of(desk, 3)}
    desk.close()
    assert found == {
        "annotate/items": (2, 2),
        "annotate/complete_items": (1, 1),
        "annotate/judgements": (3, 3),
        "annotate/annotators": (2, 2),
        "annotate/percent_agreement": (1, 1),
    }
