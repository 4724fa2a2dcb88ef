"""The loop itself: on the embedded world it must learn what is there to learn, on real pairs it must run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from align.report.files import read_results, read_samples

REPO = Path(__file__).resolve().parents[2]


def pipeline(directory: Path, *overrides: str) -> dict[str, tuple[float, float | None]]:
    """Runs ``stage=pipeline``; metric -> (value, lower bound of its 95 % interval)."""
    command = [sys.executable, "-m", "align", "stage=pipeline", f"run.dir={directory}", *overrides]
    # as a user runs it: on all cores, where the other tests take one
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return {one.metric: (one.value, one.ci_low) for one in read_results(directory / "results.json")}


@pytest.mark.slow
def test_the_embedded_world_is_learnt(tmp_path: Path) -> None:
    """What the project promises of its default run: 90 % of the Bayes limit, and 0.70 of the prompts won."""
    found = pipeline(tmp_path)
    assert found["reward/accuracy"][0] >= 0.9 * found["reward/bayes_accuracy"][0]
    win_rate, at_least = found["dpo/gold_win_rate"]
    assert win_rate >= 0.70
    assert at_least is not None
    assert at_least > 0.5
    assert found["dpo/gold_reward"][0] > found["sft/gold_reward"][0]
    assert found["dpo/kl"][0] > 0
    assert (tmp_path / "figures" / "pipeline.png").stat().st_size > 10_000
    samples = read_samples(tmp_path / "evaluate" / "samples.jsonl")
    assert set(samples[0]["replies"]) == {"sft", "dpo"}


@pytest.mark.slow
@pytest.mark.realdata
def test_real_human_pairs_run_end_to_end(tmp_path: Path, shared_data: Path) -> None:
    """Three steps of each stage: the path is what is tested; multi-turn prompts longer than the model too."""
    path = shared_data / "hh-rlhf" / "harmless-base.jsonl.gz"
    found = pipeline(
        tmp_path,
        "dataset=hh_rlhf",
        f"dataset.path={path}",
        "model=tiny",
        "training.max_steps=3",
        "evaluation.prompts=40",
        "sampling.max_new_tokens=16",
    )
    assert {"reward/accuracy", "dpo/proxy_win_rate", "dpo/kl", "sft/nll"} <= set(found)
    assert not {"reward/bayes_accuracy", "dpo/gold_win_rate"} & set(found), "no truth is known here"
