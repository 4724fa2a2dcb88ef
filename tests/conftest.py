"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported: runs that are compared bit for bit must sum in the same order, and test workers
# share the cores.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (``realdata`` tests): ``$ALIGN_SHARED_DATA``, or ``../shared/data``."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ALIGN_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (name another with ALIGN_SHARED_DATA)")
    return folder
