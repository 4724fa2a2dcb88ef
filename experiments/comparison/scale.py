"""The command on many long runs, in a process of its own: seconds and memory, imports and figures counted."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from align.errors import AlignError
from align.overrides import quoted
from experiments.comparison.made import sweep

ROOT = Path(__file__).resolve().parents[2]


class CompareFailed(AlignError):
    """The command did not come to its end."""


@dataclass(frozen=True)
class Size:
    """What is compared."""

    runs: int = 200
    lines: int = 10_000
    """Of metrics.jsonl, a run."""
    rounds: int = 3


def measured(size: Size, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Of trainings and of their evaluations: medians over rounds, and each round.

    Raises:
        CompareFailed: the command ended with another exit code than 0.
    """
    say(f"making {size.runs} runs of {size.lines} lines, and their evaluations")
    places = dict(zip(("trainings", "evaluations"), sweep(folder, size.runs, size.lines), strict=True))
    found: dict[str, Any] = {"runs": size.runs, "lines": size.lines}
    for name, place in places.items():
        rounds = [_compare(place, folder / f"{name}-{turn}") for turn in range(size.rounds)]
        found[name] = {key: median(one[key] for one in rounds) for key in rounds[0]} | {"rounds": rounds}
        say(f"  {name}: {found[name]['seconds']:.1f} s, {found[name]['peak_mb']:.0f} MB")
    return found


def _compare(runs: Path, out: Path) -> dict[str, float]:
    words = [f"runs={quoted(str(runs))}", f"run.dir={quoted(str(out))}"]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "align", "stage=compare", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    said = child.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise CompareFailed(f"stage=compare ended with exit code {child.returncode}:\n{said[-2000:]}")
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": _megabytes(used),
        "page_mb": (out / "comparison.html").stat().st_size / 1e6,
    }


def _megabytes(used: resource.struct_rusage) -> float:
    # kilobytes on Linux, bytes on macOS (man getrusage)
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
