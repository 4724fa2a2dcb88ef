"""What the command sees to before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from align.__main__ import SPINS, main

LOADED = "import sys, align.__main__; print('torch' in sys.modules)"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_give_way_where_something_else_runs(
    given: dict[str, str],
    spins: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unless the user has said how they wait."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["--help"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert capsys.readouterr().out


def test_torch_is_imported_after_that() -> None:
    """It reads how threads wait as it is loaded, once."""
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
