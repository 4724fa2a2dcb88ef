"""A run that SIGTERM stops, or whose newest checkpoint is damaged, goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_runs import SHAPE, STEPS, WORLD, lines, record, train

from align.__main__ import main
from align.tracking.metrics import MetricsFile
from align.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("sft", "reward", "dpo", "kto")


def words(stage: str, directory: Path, sft_run: Path) -> list[str]:
    """The command of ``directory``'s twin in conftest.py."""
    start = SHAPE if stage == "sft" else (f"model.path={sft_run}",)
    return [f"stage={stage}", f"run.dir={directory}", *start, *WORLD, *STEPS]


def assert_same_product(one: Path, other: Path) -> None:
    assert lines(one) == lines(other)
    for file in ("model/model.safetensors", "results.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


@pytest.mark.medium
@pytest.mark.parametrize("stage", STAGES)
def test_sigterm_finishes_the_step_and_saves(
    stage: str,
    tmp_path: Path,
    sft_run: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It arrives when step 3 is written down, which is not a step that would be saved otherwise."""
    whole: Path = request.getfixturevalue(f"{stage}_run")
    write = MetricsFile.write

    def write_and_signal(self: MetricsFile, step: int, values: Any) -> None:
        write(self, step, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MetricsFile, "write", write_and_signal)
    assert main(words(stage, tmp_path / "run", sft_run)) == 143
    assert "step 3 of 6 is finished and saved" in capsys.readouterr().err
    found = record(tmp_path / "run")
    assert found["state"] == "terminated"
    assert "SIGTERM" in found["error"]
    assert checkpoints.steps_in(tmp_path / "run" / "checkpoints") == [2, 3]

    assert main([*words(stage, tmp_path / "run", sft_run), "resume=true"]) == 0
    found = record(tmp_path / "run")
    assert found["state"] == "completed"
    assert "error" not in found
    assert_same_product(tmp_path / "run", whole)


@pytest.mark.medium
def test_a_process_that_sigterm_stops_exits_143(tmp_path: Path) -> None:
    """From outside, at no chosen moment; the resumed run is the one that took the same steps at once."""

    def command(name: str, steps: int, *more: str) -> list[str]:
        training = (f"training.max_steps={steps}", "training.schedule=constant", "training.save_every=null")
        return ["stage=sft", f"run.dir={tmp_path / name}", *SHAPE, *WORLD, *STEPS, *training, *more]

    process = subprocess.Popen(
        [sys.executable, "-m", "align", *command("run", 100_000)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    (step,) = checkpoints.steps_in(tmp_path / "run" / "checkpoints")
    assert lines(tmp_path / "run")[-1]["step"] == step

    assert main([*command("run", step + 3), "resume=true"]) == 0
    assert main(command("whole", step + 3)) == 0
    assert_same_product(tmp_path / "run", tmp_path / "whole")


@pytest.mark.medium
@pytest.mark.parametrize("file", ["weights.safetensors", "optimiser.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    file: str, tmp_path: Path, sft_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(sft_run, run)
    damaged = run / "checkpoints" / "step-000006" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    shutil.rmtree(run / "model")
    (run / "results.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert main([*words("sft", run, sft_run), "resume=true"]) == 0
    assert f"step 6 is damaged ({file} has changed" in caplog.text
    assert "going back to step 4" in caplog.text
    assert_same_product(run, sft_run)


@pytest.mark.medium
def test_no_run_starts_afresh_where_every_checkpoint_is_damaged(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(sft_run, run)
    for step in (4, 6):
        (run / "checkpoints" / f"step-00000{step}" / "weights.safetensors").unlink()
    before = lines(run)
    assert main([*words("sft", run, sft_run), "resume=true"]) == 5
    assert "no checkpoint in" in capsys.readouterr().err
    assert lines(run) == before


@pytest.mark.medium
def test_another_runs_directory_is_neither_overwritten_nor_continued(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.dumps(record(sft_run))
    assert main(words("sft", sft_run, sft_run)) == 2
    assert "is not empty: resume=true continues" in capsys.readouterr().err
    other = [*words("sft", sft_run, sft_run), "resume=true"]
    assert main([*other, "dataset.pairs=170"]) == 2
    assert "dataset.pairs: 160 -> 170" in capsys.readouterr().err
    assert json.dumps(record(sft_run)) == before

    run = tmp_path / "run"
    train("sft", run)
    assert main([*words("sft", run, sft_run), "resume=true", "training.learning_rate=0.1"]) == 5
    assert "training.learning_rate was 0.003, now 0.1" in capsys.readouterr().err


@pytest.mark.medium
def test_a_checkpoint_is_not_continued_on_other_data_or_from_another_model(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paths are the same; what lies there is not. Under DPO another model is another reference."""
    start, file = tmp_path / "start", tmp_path / "pairs.jsonl"
    shutil.copytree(sft_run / "model", start)
    rows = [{"prompt": f"Mend bell {i}?", "chosen": f"With care, {i}.", "rejected": "No."} for i in range(40)]

    def run() -> int:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ("dataset=preference", f"dataset.path={file}", "model.max_length=192")
        place = (f"run.dir={tmp_path / 'run'}", f"model.path={start}", "resume=true")
        capsys.readouterr()
        return main(["stage=dpo", *place, *data, *STEPS])

    assert run() == 0
    assert run() == 0
    rows[7]["chosen"] = "With great care."
    assert run() == 5
    assert "data was " in capsys.readouterr().err
    rows[7]["chosen"] = "With care, 7."
    weights = load_file(start / "model.safetensors")
    weights["model.norm.weight"][0] += 0.25
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    assert run() == 5
    assert "model was " in capsys.readouterr().err
