"""``adapter=lora`` in every stage: it starts where the model stands, and what it learnt stays when saved."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_runs import evaluate, losses, record, train
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from align.training import checkpoints
from align.types import Message
from reward_models.bradley_terry import BradleyTerry

pytestmark = pytest.mark.medium

LORA = ("adapter=lora", "adapter.rank=4")
PROMPT = (Message("user", "How do I mend a bell?"),)
REPLIES = [
    "With care.",
    "Take a small hammer and some glue, and wait a day because it must dry. You are welcome.",
    "No.",
    "Glad you asked. Mend mend mend mend the bell the bell.",
]


@pytest.fixture(scope="module")
def lora_runs(tmp_path_factory: pytest.TempPathFactory, sft_run: Path) -> Path:
    """One run of each stage with an adapter, the later ones on the first one's product."""
    folder = tmp_path_factory.mktemp("lora")
    train("sft", folder / "sft", *LORA, start=sft_run)
    train("reward", folder / "reward", *LORA, start=folder / "sft")
    train("dpo", folder / "dpo", *LORA, start=folder / "sft")
    reward = ("reward=bradley_terry", f"reward.path={folder / 'reward'}")
    evaluate(folder / "evaluate", folder / "dpo", folder / "sft", *reward)
    return folder


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "evaluate"])
def test_every_stage_takes_an_adapter_or_its_product(lora_runs: Path, stage: str) -> None:
    assert record(lora_runs / stage)["state"] == "completed"
    assert len((lora_runs / stage / "results.json").read_text()) > 10


def test_dpo_starts_at_ln_2_with_an_adapter_and_without(lora_runs: Path, dpo_run: Path) -> None:
    """Policy and reference are the same weights: every log-ratio is 0, and -log σ(0) = ln 2."""
    assert losses(lora_runs / "dpo")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(dpo_run)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(lora_runs / "dpo")[1] != losses(lora_runs / "dpo")[0]


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_a_resumed_adapter_traces_an_unbroken_one(stage: str, tmp_path: Path, sft_run: Path) -> None:
    """With dropout in model and adapter: the generators go on from where they stood, too."""
    words = (*LORA, "adapter.dropout=0.2", "model.dropout=0.1", "training.schedule=constant")
    whole = train(stage, tmp_path / "whole", *words, start=sft_run)
    broken = train(stage, tmp_path / "broken", *words, "training.max_steps=3", start=sft_run)
    train(stage, broken, *words, "resume=true", start=sft_run)
    assert losses(broken) == losses(whole)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (broken / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_the_merged_policy_is_base_and_adapter(lora_runs: Path, sft_run: Path, stage: str) -> None:
    """``model/`` alone gives the logits of peft's own reading of ``adapter/`` on its base."""
    start = sft_run if stage == "sft" else lora_runs / "sft"
    base = AutoModelForCausalLM.from_pretrained(start / "model")
    adapted = PeftModel.from_pretrained(base, lora_runs / stage / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(lora_runs / stage / "model").eval()
    before = AutoModelForCausalLM.from_pretrained(start / "model").eval()
    tokens = torch.arange(6, 60).unsqueeze(0)
    with torch.no_grad():
        ours, theirs, old = (model(tokens).logits for model in (merged, adapted, before))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert float((ours - old).abs().max()) > 1e-3


def test_a_reward_model_keeps_its_head(lora_runs: Path) -> None:
    """The trained head is in the last checkpoint, in ``model/`` and in ``adapter/``, to the last bit."""
    run = lora_runs / "reward"
    last = checkpoints.newest(run / "checkpoints")
    assert last is not None
    (trained,) = [value for name, value in last.tensors["weights"].items() if "score" in name]
    merged = AutoModelForSequenceClassification.from_pretrained(run / "model")
    assert torch.equal(merged.score.weight, trained)
    kept = load_file(run / "adapter" / "adapter_model.safetensors")
    (head,) = [value for name, value in kept.items() if "score" in name]
    assert torch.equal(head, trained)


def test_a_reward_model_scores_a_text_the_same_from_either_folder_alone_or_in_a_batch(
    lora_runs: Path, tmp_path: Path
) -> None:
    run = lora_runs / "reward"
    together = BradleyTerry(str(run)).prepare().score([PROMPT] * 4, REPLIES)
    assert len({round(score, 3) for score in together}) == 4
    (tmp_path / "adapter").symlink_to(run / "adapter")  # a folder with nothing but the adapter
    for path, size in ((run, 1), (run, 3), (tmp_path, 2)):
        scorer = BradleyTerry(str(path), batch_size=size).prepare()
        assert scorer.score([PROMPT] * 4, REPLIES) == pytest.approx(together, abs=1e-5)
