"""A simulated study for the admin's pages: twelve annotators, one with a favourite side, one in a hurry."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from align.annotate.accounts import Accounts
from align.annotate.app import build_app
from align.annotate.desk import Desk
from align.annotate.seals import Seals
from align.annotate.server import listen, origins, server
from align.annotate.settings import AllocationSettings, AnnotateSettings
from align.annotate.study import Study
from align.annotate.types import Answer, Choice, Task
from align.types import CandidatePair, Judge, Message, PreferenceRecord, Reply

ALLOCATION = AllocationSettings(
    overlap=3,
    gold="simulated",
    gold_share=0.12,
    repeat_share=0.1,
    attention_share=0.04,
    warn_below=0.6,
    too_fast_seconds=4.0,
    left_beyond=0.05,
)
ITEMS = 240
ANSWERS = 660
STRENGTH = 3
BETTER = "The better reply."


@dataclass(frozen=True)
class Habit:
    """How somebody answers: right so often, else the other side; the left unread; at such a pace.

    Attention checks are passed by whoever takes ten seconds an item.
    """

    right: float
    left: float = 0.0
    seconds: float = 25.0


HABITS = {
    **{
        f"annotator-{number}": Habit(0.78 + 0.015 * number, seconds=14 + 2 * number)
        for number in range(1, 11)
    },
    "annotator-11": Habit(0.85, left=0.5),
    "annotator-12": Habit(0.55, seconds=2.0),
}


def simulate(desk: Desk, accounts: Accounts, clock: list[float], seed: int = 0) -> None:
    """Lets everybody in and answers, in an order that is drawn; working days of four hours."""
    rng = random.Random(seed)
    desk.add_items(_pairs(ITEMS, "", rng))
    desk.add_items([_known(pair) for pair in _pairs(40, " (known)", rng)], "gold")
    for name in HABITS:
        accounts.invite("annotator", name)
    people = {one.annotator: HABITS[one.name] for one in accounts.everybody() if one.annotator}
    began = clock[0]
    for number in range(ANSWERS):
        name = rng.choice(list(people))
        task = desk.serve(name)
        if not isinstance(task, Task):
            continue
        habit = people[name]
        seconds = rng.lognormvariate(0, 0.5) * habit.seconds
        clock[0] += 60 * rng.expovariate(1)
        if clock[0] - began > 4 * 3600:
            began = clock[0] = began + 24 * 3600
        choice = _choice(task, habit, rng)
        strength = rng.choice([1, 2, 2, 3]) if choice in ("left", "right") else None
        desk.submit(name, Answer(task.assignment, str(number), choice, strength, seconds=round(seconds, 1)))


@contextmanager
def simulated(folder: Path) -> Iterator[str]:
    """The study, served; yields an admin's link."""
    clock = [time.time() - 3 * 24 * 3600]
    settings = AnnotateSettings(port=0)
    listening = listen(settings)
    addresses = origins(settings, listening.getsockname()[1])
    desk = Desk(folder / "crowd.sqlite", ALLOCATION, strength_of=STRENGTH, clock=lambda: clock[0])
    seals = Seals(random.Random(1).randbytes(32), settings.session_hours)
    accounts = Accounts(desk, seals)
    simulate(desk, accounts, clock)
    served = server(build_app(desk, accounts, seals, Study(settings), addresses), settings)
    thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"{addresses[0]}/in/{accounts.invite('admin', 'admin')}"
    finally:
        served.should_exit = True
        thread.join()
        desk.close()


def _choice(task: Task, habit: Habit, rng: random.Random) -> Choice:
    drawn = rng.random()
    if drawn < 0.02:
        return "skip"
    if drawn < 0.10:
        return "tie" if drawn < 0.06 else "both_bad"
    asked = task.prompt[-1].content
    if "checks that somebody is reading" in asked and habit.seconds >= 10:
        return "left" if task.left == asked.split('"')[1] else "right"
    if rng.random() < habit.left:
        return "left"
    is_right = rng.random() < habit.right
    return "left" if (task.left == BETTER) == is_right else "right"


def _pairs(count: int, mark: str, rng: random.Random) -> list[CandidatePair]:
    """Pairs whose better reply stands first or second by chance."""
    found = []
    for number in range(count):
        replies = [Reply(BETTER), Reply("The worse reply.")]
        rng.shuffle(replies)
        asked = (Message("user", f"Question {number + 1}{mark}?"),)
        found.append(CandidatePair(prompt=asked, replies=(replies[0], replies[1])))
    return found


def _known(pair: CandidatePair) -> PreferenceRecord:
    first = pair.replies[0].text == BETTER
    record = PreferenceRecord("", pair.prompt, pair.replies, "first", Judge("function", "simulated"))
    return record if first else replace(record, preferred="second")
