"""Jobs that take milliseconds and do as they are told: ``stage=runs runs=WORD`` acts out its word.

``python tests/sweeps/acting.py -m stage=runs runs=wait,wait`` is such a sweep in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.__main__ import main
from align.errors import DataError, Terminated
from align.run import Run
from align.stages.runs import Runs
from align.types import Result


def act(stage: Runs, run: Run) -> None:
    """``ok``, ``raise``, ``bug``, ``die``, ``wait`` (for SIGTERM), ``interrupt``, ``look`` or ``slow``.

    The score is 7 less for each step that the seed is away from 7; ``look`` reports it three times as a
    validation first, and ``slow`` stays after that until it is told to end, unless the score is above -8.
    """
    mark = run.directory / "marks.txt"
    with mark.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    word = stage.runs
    if word == "raise":
        raise DataError("the well is dry\nsecond line")
    if word == "bug":
        raise KeyError("nothing like that")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "wait":
        _until_told()
    if word == "interrupt":
        os.kill(os.getppid(), signal.SIGINT)
        _until_told()
    print("said by", run.directory.name, flush=True)
    score = -7.0 * abs(run.seed - 7)
    if word in ("look", "slow"):
        lines = [json.dumps({"step": step, "validation": score}) for step in (1, 2, 3)]
        (run.directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if word == "slow" and score < -8 and os.environ.get("ACT_AT_ONCE") != "1":
        _until_told()
    results = {"act/score": score, "act/cost": float(run.seed)}
    run.write_results([Result(name, value, 1, None, None, "exact") for name, value in results.items()])
    (run.directory / "seen.json").write_text(json.dumps(facts(run)))


def facts(run: Run) -> dict[str, Any]:
    """What a job finds around itself."""
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {
        "resume": run.resume,
        "environment": {name: os.environ[name] for name in names if name in os.environ},
        "group": getattr(run.tracker, "group", None),
    }


def _until_told() -> None:
    for _ in range(600):
        time.sleep(0.1)
    raise Terminated("nobody told it")


def until(holds: Callable[[], object]) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to pass in a minute"
        time.sleep(0.05)


def marks(directory: Path) -> list[int]:
    """Ids of the processes that worked in a folder."""
    return [int(line) for line in (directory / "marks.txt").read_text().split()]


if __name__ == "__main__":
    Runs.execute = act  # type: ignore[method-assign]
    import align.sweeps.warm

    align.sweeps.warm.warm = lambda: True
    sys.exit(main(sys.argv[1:]))
