"""Many annotators at few items, each answer sent several times at once: none may count twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from align.annotate.types import Answer, Choice, Finished
from experiments.annotate.child import pair

CLICKS = 3
"""How often each answer is sent: a double click (another key) and a retry (the same key), all at once."""


@dataclass(frozen=True)
class Raced:
    """What was counted."""

    annotators: int
    items: int
    overlap: int
    sent: int
    """Answers that were sent, every click counted."""
    kept: int
    """Revisions that the database holds."""
    answers_per_item: dict[int, int]
    """Answers -> items that have so many."""
    doubled: int
    """Assignments with more than one revision."""


def race(
    database: str, annotators: int, items: int, overlap: int, limit: int | None = None, seed: int = 0
) -> Raced:
    """Everybody answers at once until there is nothing left, a thread each; ``limit`` is the items of one."""
    desk = Desk(database, AllocationSettings(overlap=overlap, items_per_annotator=limit))
    sent: list[int] = []
    try:
        desk.add_items(pair(number) for number in range(items))
        names = [desk.enrol(f"annotator {number}") for number in range(annotators)]
        start = threading.Barrier(annotators)
        clicking = ThreadPoolExecutor(max_workers=annotators * (CLICKS - 1))

        def annotate(name: str) -> None:
            rng = random.Random(f"{seed} {name}")
            start.wait()
            while not isinstance(task := desk.serve(name), Finished):
                assert not hasattr(task, "reason"), task
                choice: Choice = rng.choice(["left", "right"])
                answers = [
                    Answer(task.assignment, key, choice)  # type: ignore[union-attr]
                    for key in ("a", "a", "b")[:CLICKS]
                ]
                _click(desk, name, answers, clicking)
                sent.append(len(answers))

        with ThreadPoolExecutor(max_workers=annotators) as pool:
            for one in [pool.submit(annotate, name) for name in names]:
                one.result()
        clicking.shutdown()
        return _counted(desk, annotators, items, overlap, sum(sent))
    finally:
        desk.close()


def _click(desk: Desk, name: str, answers: list[Answer], clicking: ThreadPoolExecutor) -> None:
    """Sends all at once; all must be told the same."""
    submit: Callable[[Answer], object] = lambda answer: desk.submit(name, answer)  # noqa: E731
    others = [clicking.submit(submit, answer) for answer in answers[1:]]
    receipts = {submit(answers[0]), *(other.result() for other in others)}
    assert len(receipts) == 1, receipts


def _counted(desk: Desk, annotators: int, items: int, overlap: int, sent: int) -> Raced:
    votes = list(desk.answers())
    per_item = Counter(vote.pair_id for vote in votes)
    return Raced(
        annotators=annotators,
        items=items,
        overlap=overlap,
        sent=sent,
        kept=sum(vote.revision for vote in votes),
        answers_per_item=dict(Counter(per_item.values())),
        doubled=sum(vote.revision > 1 for vote in votes),
    )
