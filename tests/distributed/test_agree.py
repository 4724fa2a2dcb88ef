"""Ranks that work on unlike things stop before they begin, and say what is unlike."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
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


@pytest.mark.medium
def test_two_commands_that_were_typed_unlike_stop_by_the_name_of_the_option(tmp_path: Path) -> None:
    """As on two machines: each rank is started by itself, and composes its own words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = str(ROOT / "tests" / "distributed" / "launched.py")
    ranks = []
    for rank, steps in ((0, 4), (1, 5)):
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        env = {**os.environ, "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        words = [str(tmp_path / "run"), f"work.steps={steps}", f"seed={rank}"]
        ranks.append(
            subprocess.Popen(
                [sys.executable, script, *words], env=env, stderr=subprocess.PIPE, text=True, cwd=tmp_path
            )
        )
    said = [one.communicate(timeout=120)[1] for one in ranks]
    assert [one.returncode for one in ranks] == [2, 2], said
    assert "rank 1 has config work.steps 5, rank 0 has 4" in said[0]
    assert "rank 1 has config seed 1, rank 0 has 0" in said[0]
    assert said[1] == "", "one rank tells what all stop at"
    assert not (tmp_path / "run").exists()
