"""``python -m align -m ...``: one child process a combination, so that no job ends another."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from align.compose import combinations
from align.overrides import parse, quoted


def sweep(overrides: Sequence[str]) -> int:
    """Runs each job into a folder of its own under ``run.dir``, named by what it varies.

    A job that fails does not stop the others; they are listed at the end. Returns 0, or 1 where one failed.
    """
    given = next((parse(word).text.strip("'\"") for word in overrides if word.startswith("run.dir=")), None)
    root = Path(given or f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_sweep")
    rest = [word for word in overrides if not word.startswith("run.dir=")]
    jobs = combinations(rest)
    failed = []
    for number, job in enumerate(jobs, start=1):
        varied = [word for word in job if word not in rest]
        name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "_".join(varied)) or "job"
        print(f"[{number}/{len(jobs)}] {' '.join(varied)} -> {root / name}", flush=True)
        command = [sys.executable, "-m", "align", *job, f"run.dir={quoted(str(root / name))}"]
        code = subprocess.run(command, check=False).returncode
        if code:
            failed.append(f"{name}: exit code {code}")
    print(f"{len(jobs) - len(failed)} of {len(jobs)} runs completed under {root}")
    for line in failed:
        print(f"  failed {line}")
    return 1 if failed else 0
