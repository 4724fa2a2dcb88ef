"""How the process of a rank ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENDS = """
import atexit, ctypes, sys
from align.distributed.rank import leave
atexit.register(print, "what was put off")
c = ctypes.CDLL(None)
c.__cxa_atexit(c.abort, None, None)
print("what was said", file=sys.stderr)
"""
"""A library that cannot bear to be taken apart, as a C++ thread that still runs then."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by the names of glibc")
@pytest.mark.parametrize(("last", "code"), [("leave(6)", 6), ("sys.exit(6)", -signal.SIGABRT)])
def test_a_rank_leaves_before_its_libraries_are_taken_apart(last: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS + last], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (code, "what was put off")
    assert done.stderr.startswith("what was said")
