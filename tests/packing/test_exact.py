"""Packed rows give an architecture's own numbers: against plain passes over one unpadded text at a time.

Bounds: log-probabilities and scores to 1e-5, their sums to 1e-6 of their size, gradients to 1e-4 of theirs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from groups import PAIRS, alone, gradients, made_up
from peft import LoraConfig, get_peft_model
from tiny_architectures import ARCHITECTURES, SHAPE, random_causal, randomised
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
)

from align.models.build import quiet, seeded
from align.models.scalar import LastTokenScores
from align.packing.forward import Forward, Packed
from align.packing.probe import open_forward

WEIGHTS = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.0, 0.7, -0.2, 1.5])
"""Of the replies' sums in a loss, so that no reply's gradient is another's."""


def packed(model: Any, **options: Any) -> Forward:
    """Packed, or the test fails."""
    forward = open_forward(model, 0, say=pytest.fail, **options)
    assert isinstance(forward, Packed)
    return forward


def assert_same(model: Any, forward: Forward, groups: Any = PAIRS) -> None:
    """Log-probabilities, sums and gradients of the packed row are those of the texts alone."""
    logps = forward.logps(groups)
    expected = alone(model, groups)
    for row, own in enumerate(expected):
        assert int(logps.mask_BT[row].sum()) == len(own)
        torch.testing.assert_close(logps.logps_BT[row, : len(own)], own, atol=1e-5, rtol=0)
        assert logps.logps_BT[row, len(own) :].abs().sum() == 0
    sums = torch.stack([own.sum() for own in expected])
    torch.testing.assert_close(logps.sums_B(), sums, rtol=1e-6, atol=0)
    weights = WEIGHTS[: len(sums)]
    ours = gradients(model, (weights * logps.sums_B()).sum())
    theirs = gradients(model, (weights * sums).sum())
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_packed_row_equals_each_text_alone(architecture: str):
    model = random_causal(architecture)
    assert_same(model, packed(model))


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("replies", [1, 3])
def test_groups_of_one_and_of_three_replies(architecture: str, replies: int):
    model = random_causal(architecture)
    groups = made_up((11, (9, 13, 2)[:replies]), (4, (12, 1, 15)[:replies]))
    assert_same(model, packed(model), groups)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_lora(architecture: str):
    base = random_causal(architecture)
    with seeded(1), quiet():
        names = {"gpt2": ["c_attn", "c_proj"], "gpt_neox": ["query_key_value"]}
        targets = names.get(architecture, ["q_proj", "v_proj", "fc1" if architecture == "opt" else "up_proj"])
        model = get_peft_model(base, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    forward = packed(model)
    assert_same(model, forward)
    adapted = forward.logps(PAIRS).logps_BT
    with model.disable_adapter():
        plain = forward.logps(PAIRS).logps_BT
        for row, own in enumerate(alone(model, PAIRS)):
            torch.testing.assert_close(plain[row, : len(own)], own, atol=1e-5, rtol=0)
    assert float((adapted - plain).detach().abs().max()) > 0.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_recomputed_activations(architecture: str):
    """The layers run a second time in the backward pass, when the forward's arguments are long gone."""
    config = ARCHITECTURES[architecture](300)
    for name in config.to_dict():
        if "drop" in name:  # activations are recomputed in train mode only, where some would be dropped
            setattr(config, name, 0.0)
    model = randomised(AutoModelForCausalLM, config)
    forward = packed(model)
    expected = gradients(model, (WEIGHTS * forward.logps(PAIRS).sums_B()).sum())
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    got = gradients(model, (WEIGHTS * forward.logps(PAIRS).sums_B()).sum())
    assert float((got - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_passes_are_what_they_were(architecture: str):
    """The exchanged attention serves padded and unpadded inputs as the architecture's own did."""
    model, generator = random_causal(architecture), torch.Generator().manual_seed(0)
    ids = torch.randint(300, (2, 19), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    before = [model(input_ids=ids).logits, model(input_ids=ids, attention_mask=mask).logits * mask[..., None]]
    packed(model)
    after = [model(input_ids=ids).logits, model(input_ids=ids, attention_mask=mask).logits * mask[..., None]]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    left = mask.flip(1)
    assert model(input_ids=ids, attention_mask=left).logits.isfinite().all()


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(vocab_size=300, intermediate_size=48, num_key_value_heads=2, num_labels=1, **SHAPE),
        GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64, num_labels=1),
    ],
    ids=["llama", "gpt2"],
)
def test_scores_are_those_of_each_text_alone(config: Any):
    config.pad_token_id = 0
    model = LastTokenScores(randomised(AutoModelForSequenceClassification, config))
    expected = []
    for order in range(2):
        for group in PAIRS:
            ids = torch.tensor([[*group.prompt_ids, *group.replies[order]]])
            hidden = getattr(model.inner, model.inner.base_model_prefix)(input_ids=ids).last_hidden_state
            expected.append(model.inner.score(hidden[0, -1])[0])
    scores = torch.stack(expected)
    got = packed(model).scores(PAIRS)
    torch.testing.assert_close(got, scores, atol=1e-5, rtol=0)
    ours = gradients(model, (WEIGHTS * got).sum())
    theirs = gradients(model, (WEIGHTS * scores).sum())
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_temperature_divides_the_logits():
    model = random_causal("gemma2")
    got = packed(model).logps(PAIRS, temperature=0.5)
    for row, own in enumerate(alone(model, PAIRS, temperature=0.5)):
        torch.testing.assert_close(got.logps_BT[row, : len(own)], own, atol=1e-5, rtol=0)


def test_bfloat16_is_near_and_comes_back_in_float32():
    """8 bits of mantissa: a few hundredths of a nat, on logits of a few units."""
    model = random_causal("llama")
    with torch.no_grad():
        exact = packed(model).logps(PAIRS).logps_BT
        rough = packed(model, dtype=torch.bfloat16).logps(PAIRS).logps_BT
    assert rough.dtype == torch.float32
    assert 0 < float((exact - rough).abs().max()) < 0.1
