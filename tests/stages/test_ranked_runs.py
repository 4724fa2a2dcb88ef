"""A training in two ranks that is stopped goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_runs import SHAPE, STEPS, WORLD, lines, record

from align.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
LONGER = ("training.max_steps=150", "training.save_every=20", "launch.nproc=2", "launch.grace=15")


def started(directory: Path, *words: str) -> subprocess.Popen[str]:
    command = ["stage=sft", f"run.dir={directory}", *SHAPE, *WORLD, *STEPS, *LONGER, *words]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [sys.executable, "-m", "align", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(process: subprocess.Popen[str], directory: Path, number: int) -> None:
    metrics, until = directory / "metrics.jsonl", time.monotonic() + 150
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= number):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=200)[1]
    return process.returncode, said


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    """And SIGTERM costs none: each is sent to a run, which then ends as one that nobody disturbed."""
    whole = started(tmp_path / "whole")
    run = started(tmp_path / "run")
    wait_for_line(run, tmp_path / "run", 25)
    ranks = psutil.Process(run.pid).children()
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    code, said = finish(run)
    assert code == 9, said
    assert "was killed by SIGKILL" in said
    assert record(tmp_path / "run")["state"] == "failed"
    saved = checkpoints.steps_in(tmp_path / "run" / "checkpoints")
    assert saved
    assert saved[-1] < len(lines(tmp_path / "run"))

    run = started(tmp_path / "run", "resume=true")
    wait_for_line(run, tmp_path / "run", saved[-1] + 10)
    run.send_signal(signal.SIGTERM)
    code, said = finish(run)
    assert code == 143, said
    assert record(tmp_path / "run")["state"] == "terminated"
    assert checkpoints.steps_in(tmp_path / "run" / "checkpoints")[-1] == len(lines(tmp_path / "run"))

    for process in (started(tmp_path / "run", "resume=true"), whole):
        code, said = finish(process)
        assert code == 0, said
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    for file in ("model/model.safetensors", "results.json"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.slow
def test_a_pipeline_starts_the_ranks_of_each_step(tmp_path: Path) -> None:
    """The parent alone writes the pipeline; a step that is whole is not started again."""
    words = ("stage=pipeline", "order=[sft,reward]", "training.max_steps=3")
    code, said = finish(started(tmp_path / "run", *words))
    assert code == 0, said
    found = {name: record(tmp_path / "run" / name) for name in (".", "sft", "reward")}
    assert {name: one["ranks"] for name, one in found.items()} == {".": 1, "sft": 2, "reward": 2}
    assert {one["state"] for one in found.values()} == {"completed"}
    assert (tmp_path / "run" / "results.json").exists()
    before = (tmp_path / "run" / "sft" / "run.json").stat().st_mtime_ns
    assert finish(started(tmp_path / "run", *words, "resume=true"))[0] == 0
    assert (tmp_path / "run" / "sft" / "run.json").stat().st_mtime_ns == before
