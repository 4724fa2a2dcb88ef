"""Runs that wandb mirrors: whatever it does they go on, and no secret of the environment is written."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SAMPLING, SHAPE, STEPS, WORLD, lines, record, train

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef" * 2 + "plantedk",
    "HF_TOKEN": "hf_plantedplantedplantedplantedplan",
    "OPENAI_API_KEY": "sk-plantedplantedplantedplanted",
}


def test_no_file_of_a_pipeline_holds_a_secret_of_the_environment(tmp_path: Path) -> None:
    run = tmp_path / "study" / "run"
    (tmp_path / "home").mkdir()
    words = ("stage=pipeline", f"run.dir={run}", *SHAPE, *WORLD, *STEPS, *SAMPLING, "tracking=wandb")
    done = subprocess.run(
        [sys.executable, "-m", "align", *words, "tracking.mode=offline", "training.max_steps=2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "home"), **SECRETS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "wandb failed" not in done.stderr
    assert record(run)["state"] == "completed"
    mirrored = {path.parts[-4] for path in run.rglob("*.wandb")}
    assert mirrored == {"run", "sft", "reward", "dpo", "evaluate", "ppo", "evaluate_ppo"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 50
    for secret in SECRETS.values():
        for path in written:
            assert secret.encode() not in path.read_bytes(), path
        assert secret not in done.stdout + done.stderr


def raising(*arguments: Any, **options: Any) -> None:
    raise OSError("No space left on device")


def test_a_run_goes_on_where_wandb_is_missing_or_broken(
    tmp_path: Path, sft_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = types.ModuleType("wandb")
    broken.init = broken.Settings = broken.login = raising  # type: ignore[attr-defined]
    for name, module in (("missing", None), ("broken", broken)):
        monkeypatch.setitem(sys.modules, "wandb", module)
        train("sft", tmp_path / name, "tracking=wandb", "tracking.mode=offline")
        assert record(tmp_path / name)["state"] == "completed"
        assert lines(tmp_path / name) == lines(sft_run)
