"""``stage=plan`` as it is typed: what it prints and writes, and what it says of what cannot be planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.__main__ import main
from align.plan.needs import CHOICES
from align.plan.table import LEGEND

TINY = (
    "model.scratch.hidden_size=64",
    "model.scratch.layers=2",
    "model.scratch.heads=4",
    "model.scratch.mlp_size=160",
    "model.scratch.vocab_size=512",
    "model.max_length=64",
)


@pytest.mark.medium
def test_every_choice_is_a_line_and_the_run_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("of=ppo", "reward=gold", "launch.nproc=8", "deepspeed=zero2", "sampling.max_new_tokens=16")
    assert main(["stage=plan", *words, *TINY, f"run.dir={tmp_path / 'plan'}", "plan.memory_gb=4"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    rows = [line.split() for line in said.splitlines() if line.startswith(CHOICES)]
    assert [row[:2] for row in rows] == [[choice, ckpt] for choice in CHOICES for ckpt in ("no", "yes")]
    assert "ppo: MB that each of 8 ranks needs" in said
    assert "critic: less than 1 MB" in said
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())["plans"][0]
    assert (plan["ranks"], plan["memory"], plan["run"]["choice"]) == (8, 4 * 10**9, "zero2")
    assert plan["needs"]["kv_cache"] > 0


def test_the_legend_needs_no_breaking() -> None:
    """The console breaks what is wider than a terminal, and hides it so from the width of what is said."""
    assert max(map(len, LEGEND)) <= 80


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("of=dpo", "model=hf", "model.path=no/such/model"), 4, "there is no model at no/such/model"),
        (("of=runs",), 2, "of=runs: stage=plan is for stages that train"),
        (("of=dop",), 2, "dpo"),
    ],
)
def test_what_cannot_be_planned_is_said(
    words: tuple[str, ...], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage=plan", *words, f"run.dir={tmp_path / 'plan'}"]) == code
    assert told in capsys.readouterr().err
