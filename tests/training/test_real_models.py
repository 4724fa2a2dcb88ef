"""The loop on a tiny Llama: tied weights, dropout, LoRA, recomputed activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import CPU, lines, make_run, same_bits, weights

from align.alarms.settings import AlarmSettings
from align.settings import TrainingSettings
from align.training import checkpoints
from align.training.course import Batches
from align.training.loop import train
from align.training.update import Step

pytestmark = pytest.mark.medium

LENGTH, VOCABULARY = 10, 50


def make_llama(lora: bool) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        attention_dropout=0.1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(shape)
    if not lora:
        return model
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1))


@dataclass
class NextToken:
    model: Any

    def weight(self, items: Sequence[int]) -> float:
        return float(len(items) * (LENGTH - 1))

    def __call__(self, items: Sequence[int]) -> Step:
        ids_BT = torch.tensor([[(item * t + t) % VOCABULARY for t in range(LENGTH)] for item in items])
        logits_BTV = self.model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits_BTV.reshape(-1, VOCABULARY), ids_BT[:, 1:].reshape(-1), reduction="sum"
        )
        return Step(loss)


def fit(directory: Path, *, lora: bool, steps: int = 6, resume: bool = False, recompute: bool = False) -> Any:
    model = make_llama(lora)
    settings = TrainingSettings(
        max_steps=steps,
        batch_size=4,
        micro_batch_size=2,
        schedule="constant",
        log_every=1,
        save_every=3,
        gradient_checkpointing=recompute,
    )
    train(
        run=make_run(directory, resume=resume),
        settings=settings,
        model=model,
        alarms=AlarmSettings(),
        course=Batches(NextToken(model), range(20), str, settings, seed=7),
        device=CPU,
    )
    return model


@pytest.mark.parametrize("lora", [False, True])
def test_a_resumed_llama_traces_an_unbroken_one(tmp_path: Path, lora: bool) -> None:
    whole = fit(tmp_path / "whole", lora=lora)
    fit(tmp_path / "broken", lora=lora, steps=3)
    resumed = fit(tmp_path / "broken", lora=lora, resume=True)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert same_bits(weights(resumed), weights(whole))


@pytest.mark.parametrize("lora", [False, True])
def test_recomputing_activations_changes_no_loss(tmp_path: Path, lora: bool) -> None:
    kept = fit(tmp_path / "kept", lora=lora)
    recomputed = fit(tmp_path / "recomputed", lora=lora, recompute=True)
    assert lines(tmp_path / "kept") == lines(tmp_path / "recomputed")
    assert same_bits(weights(kept), weights(recomputed))
    assert recomputed.is_activation_checkpointing
    assert not kept.is_activation_checkpointing


def test_only_the_adapter_is_saved(tmp_path: Path) -> None:
    fit(tmp_path, lora=True)
    saved = checkpoints.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.tensors["weights"]
    assert all("lora_" in name for name in saved.tensors["weights"])


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path: Path) -> None:
    fit(tmp_path, lora=False, steps=3)
    resumed = fit(tmp_path, lora=False, resume=True)
    assert resumed.lm_head.weight is resumed.model.embed_tokens.weight
    saved = checkpoints.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert "lm_head.weight" not in saved.tensors["weights"]
