"""Ranks that work on unlike things stop before they begin, and say what is unlike."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from align.distributed import agree
from align.distributed.agree import differences, require_same
from align.distributed.world import World
from align.errors import RanksDiffer

ROOT = Path(__file__).resolve().parents[2]


def test_what_all_have_alike_is_no_difference() -> None:
    assert differences([{"seed": "1", "torch": "2"}] * 3) == []


def test_each_difference_names_its_ranks_and_both_values() -> None:
    found = differences(
        [{"seed": "1", "a": "x"}, {"seed": "2", "a": "x"}, {"seed": "2"}, {"seed": "3", "a": "x"}]
    )
    assert found == [
        "rank 2 has a none, rank 0 has x",
        "ranks 1, 2 have seed 2, rank 0 has 1",
        "rank 3 has seed 3, rank 0 has 1",
    ]


def test_one_rank_alone_is_not_asked() -> None:
    require_same(lambda: pytest.fail("hashing data takes time"))


def test_unlike_data_is_told_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agree, "world", lambda: World(1, 2, 1))
    monkeypatch.setattr(agree, "gathered", lambda mine: [{"data.sha256": "aa"}, mine])
    require_same(lambda: {"data.sha256": "aa"})
    with pytest.raises(RanksDiffer, match=r"rank 1 has data\.sha256 bb, rank 0 has aa"):
        require_same(lambda: {"data.sha256": "bb"})


def test_a_long_list_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agree, "world", lambda: World(0, 2, 0))
    monkeypatch.setattr(agree, "gathered", lambda mine: [mine, dict.fromkeys(mine, "other")])
    with pytest.raises(RanksDiffer, match="and 8 more"):
        require_same(lambda: {f"name {i}": "mine" for i in range(20)})


def started_by_srun(folder: Path, *words: Sequence[str]) -> list[tuple[int, str]]:
    """Two ranks with the environment that ``srun`` gives its tasks; exit code and standard error of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        job = (free.getsockname()[1] - 20_000) * pow(7, -1, 20_000) % 20_000
    ranks = []
    for rank, own in enumerate(words):
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        env = {**os.environ, "PYTHONPATH": path, "SLURM_STEP_NODELIST": "localhost"}
        env |= {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
        env |= {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
        env |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        script = str(ROOT / "tests" / "distributed" / "launched.py")
        command = [sys.executable, script, str(folder / "run"), *own]
        ranks.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=folder))
    said = [one.communicate(timeout=120)[1] for one in ranks]
    return [(one.returncode, text) for one, text in zip(ranks, said, strict=True)]


@pytest.mark.medium
def test_two_commands_that_were_typed_unlike_stop_by_the_name_of_the_option(tmp_path: Path) -> None:
    """As on two machines: each rank is started by itself, and composes its own words."""
    words = [(f"work.steps={steps}", f"seed={rank}") for rank, steps in enumerate((4, 5))]
    (first, said), (second, silent) = started_by_srun(tmp_path, *words)
    assert (first, second) == (2, 2), said + silent
    assert "rank 1 has config work.steps 5, rank 0 has 4" in said
    assert "rank 1 has config seed 1, rank 0 has 0" in said
    assert silent == "", "one rank tells what all stop at"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_tasks_of_srun_work_together(tmp_path: Path) -> None:
    assert [code for code, _ in started_by_srun(tmp_path, (), ())] == [0, 0]
    assert (tmp_path / "steps.txt").read_text().split() == ["1", "2", "3", "4"]
