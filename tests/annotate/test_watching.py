"""Pauses by habit: who is paused, only where it is asked for, and only once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from made_votes import annotator, project, vote
from served import pairs

from align.annotate.desk import Desk
from align.annotate.report import build
from align.annotate.settings import AllocationSettings
from align.annotate.snapshot import Kept, Reports
from align.annotate.types import Answer, Event, Paused, Task
from align.annotate.watch import to_pause, watched

FAST = AllocationSettings(too_fast_seconds=5.0, warn_below=1.0, pause_beyond=True)


def _kept(paused: str | None = None, events: tuple[Event, ...] = ()) -> Kept:
    """Ann hurries; Ben is slow, and wrong on gold, which is no habit."""
    votes = [vote(f"x{k}", "ann", "tie", seconds=1.0) for k in range(5)]
    votes += [vote(f"x{k}", "ben", "tie", seconds=9.0, kind="gold", right_answer="first") for k in range(5)]
    people = [annotator("ann", paused), annotator("ben"), annotator("cleo")]
    report = build(votes, people, project(), FAST)
    return Kept(report, tuple(votes), events, datetime(2026, 1, 5, tzinfo=UTC), 1)


def test_who_is_paused_for_a_habit() -> None:
    assert to_pause(_kept(), FAST) == {"ann": "median of 1.0 s an item, under 5 s"}
    assert to_pause(_kept(paused="lunch"), FAST) == {}
    once = Event("2026-01-05T09:00:00.000Z", "paused", "ann", {"by": "habit", "why": "w"})
    assert to_pause(_kept(events=(once,)), FAST) == {}
    other = Event("2026-01-05T09:00:00.000Z", "paused", "ann", {"by": "threshold", "why": "w"})
    assert "ann" in to_pause(_kept(events=(other,)), FAST)


@contextmanager
def _hurried(folder: Path, settings: AllocationSettings) -> Iterator[Desk]:
    """Ann has answered six items in a second each."""
    desk = Desk(folder / "a.sqlite", settings)
    desk.add_items(pairs(12))
    desk.enrol("ann")
    for number in range(6):
        task = desk.serve("ann")
        assert isinstance(task, Task)
        desk.submit("ann", Answer(task.assignment, f"{number}", "tie", seconds=1.0))
    yield desk
    desk.close()


def test_the_watch_pauses_once(tmp_path: Path) -> None:
    """The annotator reads nothing of the threshold; an admin who resumes has the last word."""
    with _hurried(tmp_path, FAST) as desk:
        reports = Reports(desk.database, desk.settings)
        with watched(desk, reports, every=0.01):
            end = time.monotonic() + 20
            while not desk.annotators()[0].paused and time.monotonic() < end:
                time.sleep(0.01)
            assert desk.annotators()[0].paused == "median of 1.0 s an item, under 5 s"
            pause = desk.serve("ann")
            assert isinstance(pause, Paused)
            assert "median" not in pause.reason
            assert desk.events()[-1].details["by"] == "habit"
            desk.resume("ann")
            reports.forget()
            time.sleep(0.2)
            assert desk.annotators()[0].paused is None


def test_the_watch_is_off_unless_asked_for(tmp_path: Path) -> None:
    with _hurried(tmp_path, AllocationSettings(too_fast_seconds=5.0)) as desk:
        reports = Reports(desk.database, desk.settings)
        assert reports.newest().report.people[0].warnings
        with watched(desk, reports, every=0.01):
            time.sleep(0.1)
        assert desk.annotators()[0].paused is None
