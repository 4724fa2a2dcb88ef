"""A run of ``ranked_stage`` by words like those of the command line. A program of its own.

python launched.py DIRECTORY work.what=raise launch.nproc=2
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from align.answer import answered
from align.distributed.by_hand import as_rank, is_rank, watching
from align.distributed.rank import end
from align.distributed.start import start
from align.run import Run
from align.typed import typed_run


def run_of(directory: Path, *words: str) -> Run:
    values: dict[str, Any] = {
        "stage": {"name": "distributed.ranked_stage"},
        "run": {"dir": str(directory)},
        "seed": 0,
        "resume": False,
        "tracking": {"name": "none"},
        "launch": {},
        "work": {},
    }
    for word in words:
        key, _, text = word.partition("=")
        section, _, name = key.partition(".")
        if name:
            values[section][name] = yaml.safe_load(text)
        else:
            values[section] = yaml.safe_load(text)
    return typed_run(values, "", ["python", "launched.py", *words])


def obey(directory: Path, *words: str) -> int | None:
    def work() -> None:
        run = run_of(directory, *words)
        with watching(run.launch):
            start(run)

    return as_rank(work) if is_rank(words) else work()


if __name__ == "__main__":
    end(answered(lambda: obey(Path(sys.argv[1]), *sys.argv[2:])))
