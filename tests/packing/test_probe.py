"""What cannot be packed is found by its numbers, and takes the plain path with a line that says why."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from groups import PAIRS, alone
from tiny_architectures import SHAPE, random_causal, randomised
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BloomConfig,
    JambaConfig,
    Llama4TextConfig,
    MambaConfig,
)

from align.errors import ModelError
from align.models.forward import reply_scores
from align.models.scalar import LastTokenScores
from align.packing import attention
from align.packing.forward import Packed, Padded, rows
from align.packing.layout import Layout
from align.packing.probe import open_forward
from align.packing.segments import Rule, segments

FOREIGN = {
    "mamba": (
        MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4),
        "has layers of the kind linear_attention",
    ),
    "jamba": (
        JambaConfig(vocab_size=300, intermediate_size=48, num_key_value_heads=2, **SHAPE),
        "has layers of the kind linear_attention",
    ),
    "bloom": (BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4), "its attention stays eager"),
    "llama4": (
        Llama4TextConfig(
            vocab_size=300, intermediate_size=48, intermediate_size_mlp=48, num_local_experts=2,
            num_key_value_heads=2, head_dim=8, attention_chunk_size=8, pad_token_id=0, **SHAPE,
        ),
        "has layers of the kind chunked_attention",
    ),
}  # fmt: skip
"""Architectures -> the reason that is given: states instead of attention, positions in the mask, chunks."""


@pytest.mark.parametrize("name", FOREIGN)
def test_what_cannot_be_packed_is_padded_and_said(name: str):
    config, reason = FOREIGN[name]
    model, said = randomised(AutoModelForCausalLM, config), []
    forward = open_forward(model, 0, say=said.append)
    assert isinstance(forward, Padded)
    assert len(said) == 1
    assert reason in said[0]
    assert type(model).__name__ in said[0]
    logps = forward.logps(PAIRS)
    for row, own in enumerate(alone(model, PAIRS)):
        torch.testing.assert_close(logps.logps_BT[row, : len(own)], own, atol=1e-5, rtol=0)


def test_an_encoder_is_padded_and_said():
    config = BertConfig(vocab_size=300, intermediate_size=48, num_labels=1, **SHAPE)
    model, said = LastTokenScores(randomised(AutoModelForSequenceClassification, config)), []
    forward = open_forward(model, 0, say=said.append)
    assert isinstance(forward, Padded)
    assert "pools all tokens of a text" in said[0]
    torch.testing.assert_close(forward.scores(PAIRS), reply_scores(model, *rows(PAIRS), 0))


def sees_other_replies(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Plainly causal over the row: a reply sees the reply before it, a group the groups before it."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def sees_itself_only(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    return value


def sees_ahead(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def forgets_the_scale(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    return segments(query, key, value, layout, Rule(1.0, 0.0, rule.window, rule.softcap))


def forgets_the_window(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    return segments(query, key, value, layout, Rule(rule.scale, 0.0, None, rule.softcap))


@pytest.mark.parametrize(
    ("kernel", "architecture"),
    [
        (sees_other_replies, "llama"),
        (sees_itself_only, "llama"),
        (sees_ahead, "gpt2"),
        (forgets_the_scale, "qwen2"),
        (forgets_the_window, "mistral"),
    ],
)
def test_a_wrong_kernel_is_found(kernel: Any, architecture: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(attention.KERNELS, "segments", kernel)
    model, said = random_causal(architecture), []
    assert isinstance(open_forward(model, 0, say=said.append), Padded)
    assert "other hidden states for packed rows" in said[0]
    assert not model.config._attn_implementation.startswith("align")


def test_freshly_initialised_models_are_probed_as_sharply(monkeypatch: pytest.MonkeyPatch):
    """At initialisation attention changes little: the bound follows what another prompt would change."""
    config = random_causal("llama").config
    model = AutoModelForCausalLM.from_config(config)
    assert isinstance(open_forward(model, 0, say=pytest.fail), Packed)
    monkeypatch.setitem(attention.KERNELS, "segments", sees_other_replies)
    assert isinstance(open_forward(AutoModelForCausalLM.from_config(config), 0, say=str), Padded)


def test_a_window_that_the_probe_is_too_short_for_must_be_told(monkeypatch: pytest.MonkeyPatch):
    """The probe has 20 tokens; a window of 4,096 shows only in what the layers tell their attention."""
    model = random_causal("mistral")
    model.config.sliding_window = 4096
    assert isinstance(open_forward(model, 0, say=pytest.fail), Packed)
    silent = random_causal("mistral")
    silent.config.sliding_window = 4096
    monkeypatch.setattr(attention, "Rule", lambda *rule: Rule(rule[0], rule[1], None, rule[3]))
    said: list[str] = []
    assert isinstance(open_forward(silent, 0, say=said.append), Padded)
    assert "does not tell its attention how far back to look" in said[0]


def test_a_head_that_does_more_than_we_know_is_found():
    model, said = random_causal("llama"), []
    assert isinstance(open_forward(model, 0, say=said.append), Packed)
    whole = model.forward

    def louder(**inputs: Any) -> Any:
        outputs = whole(**inputs)
        outputs.logits = outputs.logits * 1.1
        return outputs

    model.forward = louder
    assert isinstance(open_forward(model, 0, say=said.append), Padded)
    assert "more of its logits" in said[0]


def test_what_is_asked_for_by_name_is_given_or_refused():
    model = random_causal("llama")
    assert isinstance(open_forward(model, 0, attention="padded", say=pytest.fail), Padded)
    with pytest.raises(ModelError, match=re.escape("training.attention=segments cannot be used")):
        open_forward(randomised(AutoModelForCausalLM, FOREIGN["bloom"][0]), 0, attention="segments")
    # no CUDA here, where the flash kernel would run
    with pytest.raises(ModelError, match="which takes what can"):
        open_forward(model, 0, attention="varlen")


def test_the_probe_leaves_the_random_state_and_the_mode_alone():
    model = random_causal("llama").train()
    state = torch.random.get_rng_state()
    open_forward(model, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(one.grad is None for one in model.parameters())
