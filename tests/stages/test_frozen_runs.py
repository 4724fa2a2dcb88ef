"""``training.frozen`` and ``training.unfreeze_every`` through the command itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rollout_runs import last_state
from safetensors.torch import load_file
from tiny_runs import STEPS, WORLD, losses, train

from align.__main__ import main

pytestmark = pytest.mark.medium


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / "model" / "model.safetensors")
    return found


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_what_is_frozen_stays_to_the_last_bit(stage: str, tmp_path: Path, sft_run: Path) -> None:
    words = ("training.frozen=[embeddings,first_1_block]",)
    before, after = weights(sft_run), weights(train(stage, tmp_path / "run", *words, start=sft_run))
    for name in before.keys() & after.keys():
        stays = "embed_tokens" in name or ".layers.0." in name
        assert torch.equal(before[name], after[name]) == stays, name


@pytest.mark.parametrize("more", [(), ("adapter=lora", "adapter.rank=4")], ids=["whole", "lora"])
def test_a_resumed_thaw_traces_an_unbroken_one(more: tuple[str, ...], tmp_path: Path, sft_run: Path) -> None:
    """Two blocks: the lower one joins at step 3, the embeddings at step 5; the break is after step 3."""
    words = (*more, "training.unfreeze_every=2", "training.schedule=constant")
    whole = train("dpo", tmp_path / "whole", *words, start=sft_run)
    broken = train("dpo", tmp_path / "broken", *words, "training.max_steps=3", start=sft_run)
    moved = {name for name, one in weights(sft_run).items() if not torch.equal(one, weights(broken)[name])}
    assert any(".layers.0." in name for name in moved)
    assert not any("embed_tokens" in name for name in moved)
    train("dpo", broken, *words, "resume=true", start=sft_run)
    assert losses(broken) == losses(whole)
    assert last_state(broken) == last_state(whole)


def test_a_resume_with_another_thaw_is_refused(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("dpo", tmp_path / "run", "training.max_steps=2", start=sft_run)
    words = ("stage=dpo", f"run.dir={run}", f"model.path={sft_run}", *WORLD, *STEPS, "resume=true")
    assert main([*words, "training.unfreeze_every=1"]) == 5
    assert "training.unfreeze_every was unset, now 1" in capsys.readouterr().err


def test_offload_on_a_processor_is_refused(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("asks for a machine without CUDA")
    words = ("stage=dpo", f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}", *WORLD, *STEPS)
    assert main([*words, "training.offload_activations=true"]) == 2
    assert "set it to false" in capsys.readouterr().err
