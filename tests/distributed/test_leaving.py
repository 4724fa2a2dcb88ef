"""How the process of a command ends, alone and as one of several ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPOILT = """
import atexit, ctypes, sys
atexit.register(print, "what was put off")
c = ctypes.CDLL(None)
c.__cxa_atexit(c.abort, None, None)
print("what was said", file=sys.stderr)
"""
"""A library that cannot bear to be taken apart, as a C++ thread that still runs then."""
AS_RANK = "from align.distributed.rank import end; end(6)"
COMMAND = "import runpy; sys.argv[1:] = ['--help']; runpy.run_module('align', run_name='__main__')"
RANKS, ALONE = {"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "1"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by the names of glibc")
@pytest.mark.parametrize(
    ("last", "world", "code"),
    [
        (AS_RANK, RANKS, 6),
        (AS_RANK, ALONE, -signal.SIGABRT),
        (COMMAND, RANKS, 0),
        (COMMAND, ALONE, -signal.SIGABRT),
    ],
    ids=["rank", "alone", "command of a rank", "command alone"],
)
def test_a_rank_leaves_before_its_libraries_are_taken_apart(
    last: str, world: dict[str, str], code: int
) -> None:
    command, environment = [sys.executable, "-c", SPOILT + last], {**os.environ, **world}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "what was put off"
    assert done.stderr.startswith("what was said")
