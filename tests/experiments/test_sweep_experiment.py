"""The sweep over losses and betas: its commands, and all of it on a world that is small enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.compose import run_from
from align.compose_sweep import combinations, is_own
from experiments.page import END, begin
from experiments.sweep.__main__ import FIGURES, publish
from experiments.sweep.runs import Size, commands, run

TINY = Size(
    losses=("dpo", "ipo"), betas=(0.1,), seeds=(1, 2), pairs=320, hidden=16, layers=1, heads=2, mlp=32,
    sft_epochs=0.5, reward_epochs=0.5, epochs=6, unseen=12,
)  # fmt: skip
"""Small, but with runs that drift (a curve needs three) and 20 unseen pairs (calibration needs as many)."""


def test_each_command_composes(tmp_path: Path) -> None:
    found = commands(tmp_path / "it's here", Size())
    assert run_from(found["world"], []).stage_name == "pipeline"
    words = found["sweep"][1:]
    jobs = combinations([word for word in words if not is_own(word)])
    assert len(jobs) == 18
    for job in (jobs[0], jobs[-1]):
        assert run_from(job, []).stage_name == "pipeline"
    assert run_from(found["comparison"], []).stage_name == "compare"


@pytest.mark.slow
def test_all_of_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text(f"before\n{begin('sweep')}\nof before\n{END}\nafter\n")
    publish(run(tmp_path / "work", TINY), out)
    text = (out / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "of before" not in text
    assert "4 of 4 runs completed" in text
    assert text.count("\n| loss.name=") == 2 + 3, "a line a setting; one a pair, and two with the reference"
    assert {path.name for path in out.glob("*.png")} == {f"{name}.png" for name in FIGURES}
    results = json.loads((out / "results.json").read_text())["results"]
    assert {one["metric"] for one in results} >= {"loss.name=dpo/dpo/gold_win_rate"}
