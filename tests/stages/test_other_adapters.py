"""``adapter=dora``, ``prompt`` and ``prefix`` where it trains, resumed, and read by the next stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from rollout_runs import ROLLOUTS, last_state
from safetensors.torch import load_file
from tiny_runs import STEPS, WORLD, align, evaluate, losses, record, train

from align.__main__ import main
from align.training import checkpoints

pytestmark = pytest.mark.medium

DORA = ("adapter=dora", "adapter.rank=4")
VIRTUAL = {kind: (f"adapter={kind}", "adapter.virtual_tokens=4") for kind in ("prompt", "prefix")}
ADAPTERS = {"dora": DORA, **VIRTUAL}
TRAINED = {"dora": "magnitude", "prompt": "prompt_encoder", "prefix": "prompt_encoder"}
# what is from scratch in tiny_runs has 192 positions, all of them for text
ROOM = "model.max_length=188"
SAMPLED = {
    "ppo": ("stage=ppo", "critic.kind=shared"),
    "separate": ("stage=ppo", "critic.kind=separate"),
    "grpo": ("stage=grpo", "rollout.replies=2"),
    "online_dpo": ("stage=online_dpo", "loss.beta=0.1"),
}


def trained_names(run: Path) -> set[str]:
    last = checkpoints.newest(run / "checkpoints")
    assert last is not None
    return set(last.tensors["weights"])


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_chain_of_stages_with_one_kind_of_adapter(kind: str, tmp_path: Path, sft_run: Path) -> None:
    """sft, then reward, dpo and kto from it, then an evaluation by that reward model."""
    words = (*ADAPTERS[kind], ROOM)
    train("sft", tmp_path / "sft", *words, start=sft_run)
    for stage in ("reward", "dpo", "kto"):
        run = train(stage, tmp_path / stage, *words, start=tmp_path / "sft")
        assert any(TRAINED[kind] in name for name in trained_names(run)), stage
        assert not any(name.endswith("mlp.up_proj.weight") for name in trained_names(run)), stage
        assert losses(run)[-1] != losses(run)[0]
    # the reference is the start, with the tokens it came with: every log-ratio is 0
    assert losses(tmp_path / "dpo")[0] == pytest.approx(math.log(2), abs=1e-5)
    reward = ("reward=bradley_terry", f"reward.path={tmp_path / 'reward'}")
    evaluate(tmp_path / "evaluate", tmp_path / "dpo", tmp_path / "sft", ROOM, *reward)
    assert record(tmp_path / "evaluate")["state"] == "completed"


@pytest.mark.parametrize("sampled", SAMPLED)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_stages_that_sample_take_each_kind(kind: str, sampled: str, tmp_path: Path, sft_run: Path) -> None:
    more = [word for word in ROLLOUTS if sampled != "online_dpo" or not word.startswith("objective")]
    run = tmp_path / "run"
    align(*SAMPLED[sampled], f"run.dir={run}", f"model.path={sft_run}", *WORLD, *STEPS, *more, ROOM,
          *ADAPTERS[kind], "training.max_steps=2")  # fmt: skip
    assert any(TRAINED[kind] in name for name in trained_names(run))
    assert record(run)["state"] == "completed"


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_resumed_run_traces_an_unbroken_one(kind: str, tmp_path: Path, sft_run: Path) -> None:
    words = (*ADAPTERS[kind], ROOM, "training.schedule=constant")
    whole = train("dpo", tmp_path / "whole", *words, start=sft_run)
    broken = train("dpo", tmp_path / "broken", *words, "training.max_steps=3", start=sft_run)
    train("dpo", broken, *words, "resume=true", start=sft_run)
    assert losses(broken) == losses(whole)
    assert last_state(broken) == last_state(whole)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (broken / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize("kind", VIRTUAL)
def test_the_weights_under_virtual_tokens_stay_as_they_are(kind: str, tmp_path: Path, sft_run: Path) -> None:
    run = train("dpo", tmp_path / "run", *VIRTUAL[kind], ROOM, start=sft_run)
    before, after = (load_file(one / "model" / "model.safetensors") for one in (sft_run, run))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(load_file(run / "model" / "adapter_model.safetensors")["prompt_embeddings"]) == 4


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_full_training_of_what_has_virtual_tokens_is_refused(
    stage: str, tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("sft", tmp_path / "sft", *VIRTUAL["prompt"], ROOM, start=sft_run)
    words = (f"stage={stage}", f"run.dir={tmp_path / 'on'}", f"model.path={tmp_path / 'sft'}", *WORLD, *STEPS)
    assert main([*words, ROOM]) == 4
    assert "go on with the adapter that made them" in capsys.readouterr().err
