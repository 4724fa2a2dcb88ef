from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed_training.py")
ROOT = PROGRAM.parents[2]


@pytest.mark.parametrize(
    "stride",
    [pytest.param(23, marks=pytest.mark.medium), pytest.param(1, marks=pytest.mark.slow)],
    ids=["some operations", "every operation"],
)
def test_killed_at_any_file_operation_it_resumes_bit_for_bit(tmp_path: Path, stride: int) -> None:
    """SIGKILL before an fsync, a rename, an opening ...: checkpoints are whole or absent, traces equal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), str(stride)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    kills, operations = map(int, re.findall(r"\d+", done.stdout))
    assert kills == pytest.approx(operations / stride, abs=1)
    assert operations > 100  # five saves of some thirty operations each, pruning included
