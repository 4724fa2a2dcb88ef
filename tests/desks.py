"""A desk for tests: on a disk that forgets (no waiting for flushes), with a clock that is set by hand."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from align.annotate.types import Answer, Choice, Receipt, Task
from align.types import Judge, Message, PreferenceRecord, Preferred, Reply

START = 1_800_000_000.0
MEMORY = Path("/dev/shm")


@dataclass
class Clock:
    """Seconds since 1970 as a test wants them; a look takes a millisecond, so that answers have an order."""

    now: float = START

    def __call__(self) -> float:
        self.now += 0.001
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        """Lets time go by."""
        self.now += minutes * 60


def pair(number: int, preferred: Preferred = "first", **more: Any) -> PreferenceRecord:
    """A record whose texts tell its number and which reply is which."""
    return PreferenceRecord(
        id=f"source-{number}",
        prompt=(Message("user", f"question {number}"),),
        replies=(
            Reply(f"first {number}", "model-a", {"top_p": 0.9}, 7),
            Reply(f"second {number}", "model-b"),
        ),
        preferred=preferred,
        judge=Judge("model", "earlier-judge"),
        **more,
    )


@dataclass
class Office:
    """A desk, its clock, and people who answer."""

    desk: Desk
    clock: Clock
    path: Path
    keys: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, annotator: str) -> Task:
        """The annotator's task; fails where there is none."""
        task = self.desk.serve(annotator)
        assert isinstance(task, Task), task
        return task

    def say(self, annotator: str, task: Task, choice: Choice, **more: Any) -> Receipt:
        """Answers as the page would, with a key of its own."""
        return self.desk.submit(annotator, Answer(task.assignment, f"key-{next(self.keys)}", choice, **more))

    def prefer(self, annotator: str, task: Task, which: str, **more: Any) -> Receipt:
        """Answers with the side on which the item's ``first`` or ``second`` reply stands."""
        return self.say(annotator, task, "left" if task.left.startswith(which) else "right", **more)

    def work(self, annotator: str, count: int, which: str = "first") -> list[Task]:
        """Asks and answers so often; returns the tasks."""
        done = []
        for _ in range(count):
            done.append(self.ask(annotator))
            self.prefer(annotator, done[-1], which)
        return done

    def enrol(self, *names: str) -> None:
        """Lets people in."""
        for name in names:
            self.desk.enrol(name)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as made:
        yield Path(made)


@contextmanager
def office(items: int = 0, gold: int = 0, **settings: Any) -> Iterator[Office]:
    """An office with that many items; the settings are those of ``AllocationSettings``."""
    with memory_folder() as made:
        where = made / "annotations.sqlite"
        clock = Clock()
        desk = open_desk(where, clock, **settings)
        try:
            desk.add_items(pair(number) for number in range(1, items + 1))
            desk.add_items((pair(number) for number in range(1001, 1001 + gold)), "gold")
            yield Office(desk, clock, where)
        finally:
            desk.close()


def open_desk(where: str | Path, clock: Callable[[], float], **settings: Any) -> Desk:
    """A desk with these settings; gold needs no file where the test adds its own."""
    if settings.get("gold_share"):
        settings.setdefault("gold", "given")
    return Desk(
        where, AllocationSettings(**settings), strength_of=3, guideline="v1", code="DONE", clock=clock
    )


def number_of(task: Task) -> int:
    """Which pair a task shows."""
    return int(task.prompt[0].content.split()[-1])
