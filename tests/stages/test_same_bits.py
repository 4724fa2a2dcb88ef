"""The same command twice gives the same bits, and how a batch is cut changes nothing but rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import evaluate, lines, losses, train

from align.training import checkpoints

pytestmark = pytest.mark.medium

CUT_AS_YOU_LIKE = ("sft", "reward", "dpo")
STAGES = (*CUT_AS_YOU_LIKE, "kto")
Again = Callable[..., Path]


@pytest.fixture
def again(request: pytest.FixtureRequest, tmp_path: Path, sft_run: Path) -> Again:
    """Runs the stage's command once more, in another folder, with more words."""

    def run(stage: str, *words: str) -> Path:
        place = tmp_path / "_".join([stage, *words])
        return train(stage, place, *words, start=None if stage == "sft" else sft_run)

    return run


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_command_gives_the_same_bits(
    stage: str, again: Again, request: pytest.FixtureRequest
) -> None:
    first: Path = request.getfixturevalue(f"{stage}_run")
    torch.manual_seed(123)  # what ran before in this process must not matter
    second = again(stage)
    assert lines(second) == lines(first)
    for file in ("model/model.safetensors", "model/tokenizer.json", "results.json", "data/train.arrow"):
        assert (second / file).read_bytes() == (first / file).read_bytes(), file


def test_the_same_evaluation_gives_the_same_samples_and_numbers(
    evaluate_run: Path, sft_run: Path, reward_run: Path, dpo_run: Path, tmp_path: Path
) -> None:
    torch.manual_seed(123)
    reward = ("reward=bradley_terry", f"reward.path={reward_run}")
    second = evaluate(tmp_path / "evaluate", dpo_run, sft_run, *reward)
    for file in ("samples.jsonl", "results.json"):
        assert (second / file).read_bytes() == (evaluate_run / file).read_bytes(), file


@pytest.mark.parametrize("stage", STAGES)
def test_another_seed_is_another_run(stage: str, again: Again, request: pytest.FixtureRequest) -> None:
    first: Path = request.getfixturevalue(f"{stage}_run")
    assert losses(again(stage, "seed=1")) != losses(first)


@pytest.mark.parametrize("stage", CUT_AS_YOU_LIKE)
def test_1x8_2x4_and_8x1_agree(stage: str, again: Again, request: pytest.FixtureRequest) -> None:
    """Eight at once, four times two, eight times one: replies of different lengths, padded differently."""
    whole: Path = request.getfixturevalue(f"{stage}_run")
    for size in (2, 1):
        cut = again(stage, f"training.micro_batch_size={size}")
        for ours, theirs in zip(lines(whole), lines(cut), strict=True):
            assert ours.keys() == theirs.keys()
            # smaller batches are cut at their own longest row: less of them is padding
            assert ours.pop("fill_rate") <= theirs.pop("fill_rate")
            for name, value in ours.items():
                if (name, ours["step"]) == ("rewards/accuracy", 1):
                    continue  # the policy is still the reference: rounding decides who is ahead
                assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-5), (size, name)
        weights, others = (load_file(run / "model" / "model.safetensors") for run in (whole, cut))
        assert all(torch.allclose(weights[name], others[name], rtol=0, atol=1e-4) for name in weights)


@pytest.mark.parametrize("stage", STAGES)
def test_recomputed_activations_change_no_bit(
    stage: str, again: Again, request: pytest.FixtureRequest
) -> None:
    kept: Path = request.getfixturevalue(f"{stage}_run")
    recomputed = again(stage, "training.gradient_checkpointing=true")
    assert losses(recomputed) == losses(kept)


def test_early_stopping_takes_the_weights_of_the_best_look(again: Again) -> None:
    """A rate that falls apart: the best look is an early one, and what is saved is that step's model."""
    rate = ("training.learning_rate=0.3", "training.schedule=constant", "training.warmup_steps=0")
    run = again("reward", *rate, "training.eval_every=1", "training.early_stopping=2")
    looks = [line["validation"] for line in lines(run)]
    best = 1 + looks.index(max(looks))
    assert len(looks) == best + 2
    kept = checkpoints.read(checkpoints.folder_of(run / "checkpoints", best)).tensors["weights"]
    saved = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(saved[name.removeprefix("inner.")], tensor) for name, tensor in kept.items())
