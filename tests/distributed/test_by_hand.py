"""Ranks that the user's own launcher has started, where one process does several commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from align.distributed.by_hand import as_rank
from align.distributed.pulse import stack_file


def test_a_rank_that_leaves_late_takes_nothing_of_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they shared is removed by the last one out, while the first is in the next command already."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shared: list[Path] = []

    def command() -> None:
        (folder,) = (one for one in tmp_path.glob("align-ranks-*") if stack_file(one, 0).exists())
        for former in shared:
            shutil.rmtree(former)
        shared.append(folder)

    assert as_rank(command) == 0
    for file in shared[0].glob("stack-*"):
        file.unlink()
    assert as_rank(command) == 0
    assert shared[1].exists()
    assert shared[0] != shared[1]
