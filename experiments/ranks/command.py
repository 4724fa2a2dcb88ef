"""``python -m align`` in a process of its own, with two ranks below it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from align.errors import AlignError

ROOT = Path(__file__).resolve().parents[2]


class CommandFailed(AlignError):
    """A command ended otherwise than it should."""


def begun(*words: str, folder: Path) -> subprocess.Popen[str]:
    """A command at work; it shares a cache with the others of the folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "align", *words, f"run.cache={folder / 'cache'}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*words: str, folder: Path) -> None:
    """A command to its end.

    Raises:
        CommandFailed: its exit code is not 0.
    """
    process = begun(*words, folder=folder)
    _, said = process.communicate()
    if process.returncode:
        raise CommandFailed(
            f"exit code {process.returncode} of: python -m align {' '.join(words)}\n{said[-3000:]}"
        )
