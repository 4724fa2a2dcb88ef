"""The loop itself: on the embedded world it must learn what is there to learn, on real pairs it must run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from align.report.files import read_results, read_samples

REPO = Path(__file__).resolve().parents[2]


Found = dict[str, tuple[float, float | None]]
"""Metric -> (value, lower bound of its 95 % interval)."""


def pipeline(directory: Path, *overrides: str) -> Found:
    """Runs ``stage=pipeline``."""
    return command("pipeline", directory, *overrides)


def command(stage: str, directory: Path, *overrides: str) -> Found:
    """Runs a stage as a user does, but on one core: the other tests take the rest."""
    words = [sys.executable, "-m", "align", f"stage={stage}", f"run.dir={directory}", *overrides]
    done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return {one.metric: (one.value, one.ci_low) for one in read_results(directory / "results.json")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """The default run of the whole loop, and what it found."""
    directory = tmp_path_factory.mktemp("world") / "run"
    return directory, pipeline(directory)


@pytest.mark.slow
def test_the_embedded_world_is_learnt(world: tuple[Path, Found]) -> None:
    """What the project promises of its default run: 90 % of the Bayes limit, and 0.70 of the prompts won."""
    directory, found = world
    assert found["reward/accuracy"][0] >= 0.9 * found["reward/bayes_accuracy"][0]
    win_rate, at_least = found["dpo/gold_win_rate"]
    assert win_rate >= 0.70
    assert at_least is not None
    assert at_least > 0.5
    assert found["dpo/gold_reward"][0] > found["sft/gold_reward"][0]
    assert found["dpo/kl"][0] > 0
    assert (directory / "figures" / "pipeline.png").stat().st_size > 10_000
    samples = read_samples(directory / "evaluate" / "samples.jsonl")
    assert set(samples[0]["replies"]) == {"sft", "dpo"}


@pytest.mark.slow
def test_ppo_learns_from_a_learnt_reward(world: tuple[Path, Found]) -> None:
    """The pipeline's own step, on the reward model trained just before: three prompts of four are won."""
    _, found = world
    win_rate, at_least = found["ppo/gold_win_rate"]
    assert win_rate >= 0.75
    assert at_least is not None
    assert at_least > 0.5


@pytest.mark.slow
def test_ppo_learns_from_the_truth(world: tuple[Path, Found], tmp_path: Path) -> None:
    """On the gold itself nothing is lost to a reward model."""
    sft = f"{world[0] / 'sft'}"
    command("ppo", tmp_path / "ppo", f"model.path={sft}", "reward=gold")
    judged = command(
        "evaluate", tmp_path / "judged", f"model.path={tmp_path / 'ppo'}", f"reference.path={sft}"
    )
    win_rate, at_least = judged["ppo/gold_win_rate"]
    assert win_rate >= 0.85
    assert at_least is not None
    assert at_least > 0.5


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


@pytest.mark.slow
@pytest.mark.realdata
def test_ppo_raises_the_reward_of_real_prompts(tmp_path: Path, shared_data: Path) -> None:
    """From a reward model that was trained on the real pairs: replies to unseen prompts score higher.

    A small model that read little writes no English, and its reward model knows as much; what is held is
    that the path runs on real conversations, cut to fit, and that the policy follows its reward.
    """
    real = (
        "dataset=hh_rlhf",
        f"dataset.path={shared_data / 'hh-rlhf' / 'harmless-base.jsonl.gz'}",
        "dataset.too_long=truncate_left",
        "model.max_length=96",
        "training.batch_size=16",
        "training.learning_rate=0.003",
    )
    shape = ("model.scratch.hidden_size=64", "model.scratch.layers=2", "model.scratch.heads=2")
    sft, reward = tmp_path / "sft", tmp_path / "reward"
    few = "training.max_steps=30"
    command("sft", sft, *real, *shape, few, "model.scratch.vocab_size=1024")
    command("reward", reward, *real, few, f"model.path={sft}")
    of = (f"model.path={sft}", f"reward.path={reward}", "sampling.max_new_tokens=24", "training.max_steps=80")
    found = command("ppo", tmp_path / "ppo", *real, *of, "evaluation.prompts=100")
    gained, at_least = found["ppo/score_gained"]
    assert gained > 0
    assert at_least is not None
    assert at_least > 0
