"""Our stages and trl's trainers walk the same path: the same batches, the same losses, the same weights.

The stage is run by its command on the embedded world; the conversations of its batches, in its order, are
then given to trl, which renders and tokenises them by itself with the same tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from datasets import disable_progress_bars as disable_data_bars
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny_runs import WORLD, align, lines, losses
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from align.models.build import seeded
from align.models.policy import load_policy, save_policy
from align.models.scalar import load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.pairs.store import TokenStore
from align.training.sampler import Sampler
from data.toy import Toy

pytestmark = pytest.mark.medium

STEPS, BATCH, RATE, SEED = 8, 8, 0.003, 5
SAME = {"rel": 0, "abs": 5e-5}
"""Packed sums are taken in another order, and at this rate Adam makes 1e-5 of their rounding in 3 steps."""
TRAINING = (
    f"training.max_steps={STEPS}",
    f"training.batch_size={BATCH}",
    f"training.learning_rate={RATE}",
    "training.schedule=constant",
    "training.warmup_steps=0",
    "training.length_window=1",
    "training.precision=float32",
    "training.log_every=1",
    f"seed={SEED}",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random policy and a random reward model with their tokenizer, as Hugging Face folders."""
    disable_data_bars()
    folder = tmp_path_factory.mktemp("start")
    shape = ScratchSettings(hidden_size=32, layers=2, heads=2, mlp_size=48, vocab_size=400)
    model = ModelSettings(scratch=shape, max_length=192)
    policy = load_policy(model, AdapterSettings(), texts=toy_texts, seed=1)
    save_policy(policy, folder / "policy")
    scalar = load_scalar(model, AdapterSettings(), texts=toy_texts, seed=2)
    save_scalar(scalar, folder / "scalar")
    return {"policy": folder / "policy", "scalar": folder / "scalar"}


def toy_texts() -> Iterator[str]:
    source = Toy(pairs=160, prompts=80)
    records = (source.record(row.values) for row in source.rows() if row.values is not None)
    for one in records:
        yield from (*(turn.content for turn in one.prompt), *(reply.text for reply in one.replies))


def ours(stage: str, directory: Path, start: Path, *words: str) -> Path:
    """The stage's own command, from the folder ``start``."""
    align(f"stage={stage}", f"run.dir={directory}", f"model.path={start}", *WORLD, *TRAINING, *words)
    return directory


def batches(directory: Path) -> Dataset:
    """The conversations that a run trained on, batch after batch, as trl reads them."""
    store: TokenStore[Any, Any] = TokenStore(directory / "data" / "train.arrow")
    sampler = Sampler(SEED, BATCH, len(store))
    order = [i for step in range(1, STEPS + 1) for i in sampler.batch(step)]
    return Dataset.from_list([as_row(store.text(i)) for i in order])


def as_row(text: Any) -> dict[str, Any]:
    def said(reply: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": reply}]

    prompt = [{"role": turn.role, "content": turn.content} for turn in text.prompt]
    if hasattr(text, "desirable"):
        return {"prompt": prompt, "completion": said(text.reply), "label": text.desirable}
    if hasattr(text, "reply"):
        return {"prompt": prompt, "completion": said(text.reply)}
    return {
        "prompt": prompt,
        "chosen": said(text.chosen),
        "rejected": said(text.rejected),
        "margin": text.margin,
    }


def arguments(directory: Path, accumulation: int = 1) -> dict[str, Any]:
    """trl's settings for the training that ``TRAINING`` asks of us."""
    return {
        "output_dir": str(directory / "trl"),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH // accumulation,
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": "sequential",
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "max_length": None,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
    }


def theirs(trainer: Any) -> list[dict[str, float]]:
    """Trains; the logged steps."""
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


def assert_same_path(directory: Path, logged: list[dict[str, float]]) -> None:
    """Loss and gradient norm (before clipping) of every step."""
    assert len(logged) == STEPS
    assert losses(directory) == pytest.approx([line["loss"] for line in logged], **SAME)
    norms = [line["grad_norm"] for line in lines(directory)]
    assert norms == pytest.approx([line["grad_norm"] for line in logged], rel=1e-4)


def assert_same_weights(directory: Path, model: Any, moved_from: Path) -> None:
    """The saved weights are trl's, and the training moved them much further than the two differ."""
    kept = load_file(directory / "model" / "model.safetensors")
    before = load_file(moved_from / "model.safetensors")
    after = {name: tensor for name, tensor in model.state_dict().items() if name in kept}
    assert after.keys() == kept.keys()
    moved = max(float((kept[name] - before[name]).abs().max()) for name in kept)
    apart = max(float((kept[name] - after[name]).abs().max()) for name in kept)
    assert moved > RATE
    assert apart < 2e-4 < moved / 10


@pytest.mark.parametrize("accumulation", [1, 4])
def test_sft_walks_with_trl(tmp_path: Path, start: dict[str, Path], accumulation: int) -> None:
    """Replies differ in length, so with accumulation the loss is a mean over the whole batch's tokens."""
    directory = ours(
        "sft", tmp_path / "sft", start["policy"], f"training.micro_batch_size={BATCH // accumulation}"
    )
    model = AutoModelForCausalLM.from_pretrained(start["policy"])
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(tmp_path, accumulation)),
        train_dataset=batches(directory),
        processing_class=AutoTokenizer.from_pretrained(start["policy"]),
    )
    assert_same_path(directory, theirs(trainer))
    assert_same_weights(directory, model, start["policy"])


@pytest.mark.parametrize(
    ("words", "centring"),
    [((), None), (("reward_loss.margin=subtract", "reward_loss.centring=0.01"), 0.01)],
    ids=["plain", "margin and centring"],
)
def test_the_reward_model_walks_with_trl(
    tmp_path: Path, start: dict[str, Path], words: tuple[str, ...], centring: float | None
) -> None:
    directory = ours("reward", tmp_path / "reward", start["scalar"], *words)
    pairs = batches(directory)
    model = AutoModelForSequenceClassification.from_pretrained(start["scalar"])
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**arguments(tmp_path), center_rewards_coefficient=centring),
        train_dataset=pairs if words else pairs.remove_columns("margin"),
        processing_class=AutoTokenizer.from_pretrained(start["scalar"]),
    )
    logged = theirs(trainer)
    assert_same_path(directory, logged)
    accuracies = [line["accuracy"] for line in lines(directory)]
    assert accuracies == pytest.approx([line["accuracy"] for line in logged])
    assert_same_weights(directory, model, start["scalar"])


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("loss.beta=0.5",), {"loss_type": "sigmoid", "beta": 0.5}),
        (("loss=ipo", "loss.beta=0.2", "loss.per_token=true"), {"loss_type": "ipo", "beta": 0.2}),
    ],
    ids=["dpo", "ipo"],
)
def test_dpo_walks_with_trl(
    tmp_path: Path, start: dict[str, Path], words: tuple[str, ...], options: dict[str, Any]
) -> None:
    directory = ours("dpo", tmp_path / "dpo", start["policy"], *words)
    model = AutoModelForCausalLM.from_pretrained(start["policy"])
    trainer = DPOTrainer(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(start["policy"]),
        args=DPOConfig(**arguments(tmp_path), **options),
        train_dataset=batches(directory),
        processing_class=AutoTokenizer.from_pretrained(start["policy"]),
    )
    logged = theirs(trainer)
    assert_same_path(directory, logged)
    for name in ("logps/chosen", "logps/rejected"):
        mine = [line[name] for line in lines(directory)]
        assert mine == pytest.approx([line[name] for line in logged], rel=1e-5)
    assert_same_weights(directory, model, start["policy"])


def test_dpo_of_an_adapter_walks_with_trl(tmp_path: Path, start: dict[str, Path]) -> None:
    """The reference is the model with the adapter off, for both of us."""
    directory = ours("dpo", tmp_path / "dpo", start["policy"], "adapter=lora", "adapter.rank=4")
    base = AutoModelForCausalLM.from_pretrained(start["policy"])
    low_rank = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32.0, target_modules="all-linear")
    with seeded(SEED):  # the draws that the stage made
        model = get_peft_model(base, low_rank)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**arguments(tmp_path), beta=0.1),
        train_dataset=batches(directory),
        processing_class=AutoTokenizer.from_pretrained(start["policy"]),
    )
    assert_same_path(directory, theirs(trainer))
    fresh = AutoModelForCausalLM.from_pretrained(start["policy"])
    kept = PeftModel.from_pretrained(fresh, directory / "adapter").state_dict()
    learnt = {name: tensor for name, tensor in model.state_dict().items() if ".default." in name}
    assert learnt
    for name, tensor in learnt.items():
        torch.testing.assert_close(kept[name], tensor, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (
            ("unpaired_loss.beta=0.5", "unpaired_loss.desirable_weight=1.3"),
            {"loss_type": "kto", "beta": 0.5, "desirable_weight": 1.3},
        ),
        (("unpaired_loss.baseline=none",), {"loss_type": "apo_zero_unpaired"}),
    ],
    ids=["kto", "apo_zero_unpaired"],
)
def test_kto_walks_with_trl(
    tmp_path: Path, start: dict[str, Path], words: tuple[str, ...], options: dict[str, Any]
) -> None:
    """The mismatched replies, too, are the same: each prompt has the one before its own in the batch."""
    directory = ours("kto", tmp_path / "kto", start["policy"], *words)
    model = AutoModelForCausalLM.from_pretrained(start["policy"])
    trainer = KTOTrainer(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(start["policy"]),
        args=KTOConfig(**arguments(tmp_path), **options),
        train_dataset=batches(directory),
        processing_class=AutoTokenizer.from_pretrained(start["policy"]),
    )
    logged = theirs(trainer)
    assert_same_path(directory, logged)
    if options["loss_type"] == "kto":
        assert max(line["kl"] for line in logged) > 0.1
    for name, theirs_name in {
        "kl": "kl",
        "rewards/chosen": "rewards/chosen",
        "rewards/margin": "rewards/margins",
    }.items():
        mine = [line[name] for line in lines(directory)]
        assert mine == pytest.approx([line[theirs_name] for line in logged], rel=1e-3, abs=1e-4), name
    assert_same_weights(directory, model, start["policy"])
