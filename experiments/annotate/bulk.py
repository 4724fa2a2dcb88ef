"""A large import, and how long the next item takes among that many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from align.annotate.types import Answer, Task
from align.config import build
from align.pairs.read import records, report_for
from align.pairs.records import write_records
from align.settings import DatasetSettings
from experiments.annotate.child import pair

PEOPLE = 20


@dataclass(frozen=True)
class Imported:
    """What was measured."""

    items: int
    import_seconds: float
    """From records.jsonl on the disk, checked as for training, to the last commit."""
    serves: int
    serve_p50: float
    serve_p95: float
    serve_worst: float
    """Seconds from asking for the next item to having it, its lease on the disk."""


def bulk(folder: Path, database: str, items: int, serves: int) -> Imported:
    """Imports so many items, then serves some to people who answer each."""
    write_records(folder, (pair(number) for number in range(items)))
    dataset = build(DatasetSettings, {"name": "records", "path": str(folder)})
    desk = Desk(database, AllocationSettings(overlap=3))
    try:
        start = time.perf_counter()
        found = desk.add_items(records(dataset, report_for(dataset)))
        took = time.perf_counter() - start
        assert found.added == items, found
        names = [desk.enrol(f"annotator {number}") for number in range(PEOPLE)]
        served = []
        for number in range(serves):
            name = names[number % PEOPLE]
            start = time.perf_counter()
            task = desk.serve(name)
            served.append(time.perf_counter() - start)
            assert isinstance(task, Task)
            desk.submit(name, Answer(task.assignment, "k", "left"))
    finally:
        desk.close()
    served.sort()
    return Imported(
        items=items,
        import_seconds=took,
        serves=serves,
        serve_p50=served[len(served) // 2],
        serve_p95=served[int(len(served) * 0.95)],
        serve_worst=served[-1],
    )
