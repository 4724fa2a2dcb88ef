"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported: runs that are compared bit for bit must sum in the same order, and test workers
# share the cores.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _figures_of_runs() -> None:
    """Drawn small; what a figure shows is held by ``tests/report`` and by the runs of whole loops."""
    from little_drawn import draw_little

    draw_little()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs keep for later ones lies in the session's folder, for subprocesses too: never at home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (``realdata`` tests): ``$ALIGN_SHARED_DATA``, or ``../shared/data``."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ALIGN_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (name another with ALIGN_SHARED_DATA)")
    return folder
