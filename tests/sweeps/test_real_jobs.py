"""Jobs that really train: forked from a warm process, over ranks, or handed in to a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import SHAPE, STEPS, WORLD, align, lines, record, train

from align.__main__ import main

REPO = Path(__file__).resolve().parents[2]

IMPORTED = """
import json, sys
from align.sweeps.warm import warm
warm()
before = set(sys.modules)
from align.__main__ import main
assert main(sys.argv[1:]) == 0
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.medium
def test_a_job_is_the_same_as_the_run_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "sweep"
    align("-m", "stage=sft", f"run.dir={root}", *SHAPE, *WORLD, *STEPS, "seed=0,1", "launch.parallel=2")
    assert "[sft] step" not in capfd.readouterr().err
    alone = train("sft", tmp_path / "alone", "seed=1")
    assert lines(root / "seed=1") == lines(alone)
    model = "model/model.safetensors"
    assert (root / "seed=1" / model).read_bytes() == (alone / model).read_bytes()
    assert record(root / "seed=1")["config"] == {
        **record(alone)["config"], "run": {**record(alone)["config"]["run"], "dir": str(root / "seed=1")},
    }  # fmt: skip
    assert "[sft] step 6/6" in (root / "logs" / "seed=0.txt").read_text()


@pytest.mark.medium
def test_what_jobs_import_is_there_before_they_begin(tmp_path: Path) -> None:
    """Of the libraries that take long, a tiny job of DPO finds everything imported."""
    words = ["stage=dpo", f"run.dir={tmp_path / 'run'}", *SHAPE, *WORLD, *STEPS, "training.max_steps=1"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *words, "training.warmup_steps=0"],
        env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    later = [name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])]
    heavy = (
        "torch",
        "transformers",
        "trl",
        "peft",
        "pandas",
        "pyarrow",
        "matplotlib",
        "deepspeed",
        "datasets",
    )
    assert {name: later.count(name) for name in heavy if later.count(name) > 10} == {}


@pytest.mark.slow
def test_jobs_of_several_ranks(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    words = (*SHAPE, *WORLD, *STEPS, "training.max_steps=2", "training.warmup_steps=0", "launch.nproc=2")
    align("-m", "stage=sft", f"run.dir={root}", *words, "seed=0,1")
    for seed in (0, 1):
        assert record(root / f"seed={seed}")["state"] == "completed"
        assert record(root / f"seed={seed}")["config"]["launch"]["nproc"] == 2


@pytest.mark.slow
def test_jobs_that_are_handed_in_are_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One of them fails, with its own words in the list."""
    root = tmp_path / "sweep"
    words = (*SHAPE, *WORLD, *STEPS, "training.max_steps=2", "training.warmup_steps=0", "launch.submit=local")
    gone = tmp_path / "gone.jsonl"
    code = main(["-m", "stage=sft", f"run.dir={root}", *words, "seed=0,1"])
    said = capfd.readouterr().out
    assert code == 0, said
    assert said.count("handed in as job") == 2
    assert "2 of 2 runs completed" in said
    data = ("dataset=demonstrations", f"dataset.path={gone}", *SHAPE, "launch.submit=local")
    assert main(["-m", "stage=sft", f"run.dir={tmp_path / 'bad'}", *data, "seed=0,1"]) == 1
    assert capfd.readouterr().out.count("gone.jsonl") >= 2
