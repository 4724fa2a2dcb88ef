"""Tiny random models of several architectures, and texts to train a tokenizer on. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

from align.models.build import quiet, seeded
from align.models.settings import ModelSettings, ScratchSettings

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
ARCHITECTURES = {
    "llama": lambda v: LlamaConfig(vocab_size=v, intermediate_size=48, num_key_value_heads=2, **SHAPE),
    "qwen2": lambda v: Qwen2Config(vocab_size=v, intermediate_size=48, num_key_value_heads=2, **SHAPE),
    "qwen3": lambda v: Qwen3Config(
        vocab_size=v, intermediate_size=48, num_key_value_heads=2, head_dim=8, **SHAPE
    ),
    "mistral": lambda v: MistralConfig(
        vocab_size=v, intermediate_size=48, num_key_value_heads=2, sliding_window=8, **SHAPE
    ),
    "gpt2": lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gemma2": lambda v: Gemma2Config(
        vocab_size=v,
        intermediate_size=48,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        final_logit_softcapping=5.0,
        **SHAPE,
    ),
    "opt": lambda v: OPTConfig(
        vocab_size=v, ffn_dim=48, word_embed_proj_dim=24, do_layer_norm_before=False, **SHAPE
    ),
    "gpt_neox": lambda v: GPTNeoXConfig(vocab_size=v, intermediate_size=48, **SHAPE),
}
"""Name -> a config of that vocabulary size; soft caps, sliding windows, projections included."""

SENTENCES = ["hello there, how are you?", "the capital of France is Paris", "ünïcödé and 数字 12345"]


def texts() -> Iterator[str]:
    """A little text, the same each time."""
    return iter(SENTENCES * 20)


def tiny(**changes: Any) -> ModelSettings:
    """A model from scratch of a few thousand parameters."""
    shape = ScratchSettings(hidden_size=32, layers=2, heads=2, mlp_size=48, vocab_size=300)
    return replace(ModelSettings(scratch=shape, max_length=64), **changes)


def random_causal(architecture: str, vocabulary: int = 300) -> Any:
    """A causal model with random weights, larger than at initialisation so that outputs differ."""
    return randomised(AutoModelForCausalLM, ARCHITECTURES[architecture](vocabulary))


def randomised(auto: Any, config: Any) -> Any:
    """A model of a config with random weights, in eval mode; the same each time."""
    with seeded(0), quiet():
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
