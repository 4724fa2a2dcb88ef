"""Commands in processes of their own, each killed at a named point or left alone: ``killed_commands.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "tests" / "stages" / "killed_commands.py"
Kill = tuple[str, str, int]
"""An event, a part of the path that it is about, and which such event it is."""


def sittings(*asked: tuple[Sequence[str], Kill | None]) -> list[int]:
    """Exit statuses of commands, each killed at its point or left alone."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        input=json.dumps([{"words": words, "kill": kill} for words, kill in asked]),
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found
