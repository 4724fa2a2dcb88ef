"""What the sampler writes is what plain passes over whole texts would, whoever shares the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import ARCHITECTURES, randomised
from transformers import AutoModelForCausalLM, BloomConfig
from written import STOPS, greedy, hidden_at, policy_over, prompts, tiny, token_ids

from align.errors import ModelError, NonFiniteError
from align.generation import decoder, sampler
from align.generation.plain import generate
from align.generation.sampler import open_sampler
from align.packing.layout import ReplyGroup
from align.packing.probe import open_forward
from align.settings import SamplingSettings

GREEDY = SamplingSettings(max_new_tokens=15, temperature=0, batch_size=3)
WARM = SamplingSettings(max_new_tokens=15, temperature=0.7, batch_size=3)
PROMPTS = prompts(11, 3, 17, 1, 3, 11, 9, 5)
"""Longer than the tiny sliding windows of 8 and shorter, alike in length and not."""
BLOOM = BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)


def draw(policy: Any, settings: SamplingSettings, some: Any = PROMPTS, **more: Any) -> Any:
    return open_sampler(policy, say=pytest.fail).draw(some, settings, seed=0, **more)


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_replies_are_those_of_generate_and_of_plain_passes(architecture: str, adapter: str):
    policy = tiny(architecture, adapter)
    got = draw(policy, GREEDY)
    assert token_ids(got) == token_ids(generate(policy, PROMPTS, GREEDY, seed=0))
    assert [list(one.token_ids) for one in got] == [greedy(policy, one, 15) for one in PROMPTS]
    assert [one.ended for one in got] == [one.token_ids[-1] in STOPS for one in got]
    assert len({one.token_ids for one in got}) > 4


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_are_those_of_a_training_pass(architecture: str, temperature: float):
    policy = tiny(architecture, "lora" if temperature == 1 else "none")
    got = draw(policy, replace(WARM, temperature=temperature, top_p=0.9))
    groups = [
        ReplyGroup(prompt, (np.array(one.token_ids, dtype=np.int32),))
        for prompt, one in zip(PROMPTS, got, strict=True)
    ]
    with torch.no_grad():
        expected = open_forward(policy.model, 0, say=pytest.fail).logps(groups, temperature)
    for row, one in enumerate(got):
        own = expected.logps_BT[row][expected.mask_BT[row]]
        torch.testing.assert_close(torch.from_numpy(one.logps), own, atol=1e-5, rtol=0)


def test_at_temperature_zero_log_probabilities_are_untempered():
    policy = tiny("llama")
    for prompt, one in zip(PROMPTS, draw(policy, GREEDY), strict=True):
        logits = policy.model.lm_head(hidden_at(policy, prompt, one))
        own = logits.log_softmax(-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(torch.from_numpy(one.logps), own.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "opt"])
def test_values_are_the_heads_at_the_states_that_predict_each_token(architecture: str):
    policy = tiny(architecture)
    with torch.no_grad():
        width = plain_width(policy)
    weight = torch.randn(width, generator=torch.Generator().manual_seed(1))
    got = draw(policy, WARM, value_head=lambda hidden: hidden @ weight)
    for prompt, one in zip(PROMPTS, got, strict=True):
        expected = hidden_at(policy, prompt, one) @ weight
        torch.testing.assert_close(torch.from_numpy(one.values), expected, atol=1e-5, rtol=0)
    assert all(one.values is None for one in draw(policy, WARM))


def plain_width(policy: Any) -> int:
    """Of the hidden states that the output head reads."""
    return int(hidden_at(policy, PROMPTS[0], draw(policy, GREEDY)[0]).shape[-1])


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_a_reply_does_not_depend_on_what_shares_its_batch(architecture: str, top_p: float):
    """In float64, where no draw lies within rounding of another token."""
    policy = tiny(architecture, dtype=torch.float64)
    some = prompts(*np.random.default_rng(1).integers(1, 20, size=40))
    settings = replace(WARM, top_p=top_p)
    many = draw(policy, replace(settings, batch_size=64), some)
    assert token_ids(draw(policy, settings, some)) == token_ids(many)
    assert token_ids(draw(policy, settings, some[:5])) == token_ids(many[:5])
    assert len({len(one.token_ids) for one in many}) > 3
    # its place in the list is what tells a reply from another to the same prompt
    assert len(set(token_ids(draw(policy, settings, [PROMPTS[0]] * 6)))) > 3


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The decoders that will be made."""
    made: list[Any] = []

    class Kept(decoder.Decoder):
        def __init__(self, *rest: Any) -> None:
            super().__init__(*rest)
            made.append(self)

    monkeypatch.setattr(sampler, "Decoder", Kept)
    return made


def test_no_row_is_computed_but_those_alive(monkeypatch: pytest.MonkeyPatch):
    """Every prompt token once, and every reply token but the last; no padding, no finished row."""
    policy = tiny("llama")
    draw(policy, WARM)
    made = counted(monkeypatch)
    got = draw(policy, WARM)
    lengths = [len(one.token_ids) for one in got]
    assert min(lengths) < max(lengths)
    assert made[0].computed == sum(map(len, PROMPTS)) + sum(lengths) - len(lengths)


def test_like_prompts_are_read_once(monkeypatch: pytest.MonkeyPatch):
    policy = tiny("qwen2")
    some = [one for one in PROMPTS[:3] for _ in range(4)]
    alone = [draw(policy, GREEDY, [one])[0].token_ids for one in PROMPTS[:3]]
    made = counted(monkeypatch)
    got = draw(policy, replace(GREEDY, batch_size=12), some)
    assert token_ids(got) == [one for one in alone for _ in range(4)]
    lengths = [len(one.token_ids) for one in got]
    assert made[0].computed == sum(map(len, PROMPTS[:3])) + sum(lengths) - len(lengths)


def test_rows_enter_when_others_leave_and_long_runs_move_the_cache(monkeypatch: pytest.MonkeyPatch):
    """Many more prompts than rows: slots are used again, and no more are taken than rows reach back."""
    monkeypatch.setattr("align.generation.cache.SLACK", 4)
    monkeypatch.setitem(decoder.PASS, "cpu", 16)
    policy = tiny("mistral")
    some = prompts(*np.random.default_rng(2).integers(1, 20, size=60))
    made = counted(monkeypatch)
    got = draw(policy, replace(GREEDY, batch_size=4), some)
    assert [list(one.token_ids) for one in got] == [greedy(policy, one, 15) for one in some]
    cache = made[0].cache
    steps = sum(len(one.token_ids) for one in got) / 4
    assert cache.slots <= 20 + 15 + 9 < steps
    assert cache.rows < 4


def test_memory_that_holds_nan_is_never_read(monkeypatch: pytest.MonkeyPatch):
    """torch fills fresh memory with NaN where it is told to be deterministic."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    policy = tiny("llama")
    expected = token_ids(draw(policy, WARM))
    torch.use_deterministic_algorithms(True)
    try:
        assert token_ids(draw(policy, WARM)) == expected
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad: float, temperature: float):
    policy = tiny("llama")
    open_sampler(policy, say=pytest.fail)
    head = policy.model.lm_head
    head.bias = torch.nn.Parameter(torch.zeros(300))
    with torch.no_grad():
        head.bias[5] = bad
    with pytest.raises(NonFiniteError, match="logits of the policy are not finite at position 17"):
        draw(policy, replace(WARM, temperature=temperature, batch_size=1))


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_what_was_there_before_is_there_afterwards(adapter: str):
    policy = tiny("llama", adapter)
    policy.model.train()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    draw(policy, WARM)
    config = policy.model.config
    assert config._attn_implementation == "sdpa"
    forward = open_forward(policy.model, 0, say=pytest.fail)
    groups = [ReplyGroup(PROMPTS[0], (PROMPTS[1],))]
    before = forward.logps(groups).logps_BT
    draw(policy, WARM)
    assert config._attn_implementation == "align_segments"
    after = forward.logps(groups).logps_BT
    assert torch.equal(after, before)
    after.sum().backward()
    assert policy.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    policy.model.zero_grad()
    before_error = config._attn_implementation
    with pytest.raises(ZeroDivisionError):
        draw(policy, WARM, value_head=lambda hidden: 1 / 0)
    assert config._attn_implementation == before_error
    assert policy.model.training


def test_what_cannot_be_decoded_is_generated_and_said_once():
    policy, said = policy_over(randomised(AutoModelForCausalLM, BLOOM)), []
    for _ in range(2):
        opened = open_sampler(policy, say=said.append)
    assert len(said) == 1
    assert "BloomForCausalLM refuses single steps (ValueError: its attention stays eager)" in said[0]
    got = opened.draw(PROMPTS, GREEDY, seed=0, value_head=lambda hidden: hidden[:, 0])
    assert [list(one.token_ids) for one in got] == [greedy(policy, one, 15) for one in PROMPTS]
    assert all(one.logps is None and one.values is None for one in got)


@pytest.mark.parametrize(
    ("architecture", "change", "told"),
    [
        ("qwen2", {"scale": 1.0}, "gives other hidden states step by step"),
        ("mistral", {"window": None}, "gives other hidden states step by step"),
        ("gemma2", {"softcap": None}, "gives other hidden states step by step"),
    ],
)
def test_a_wrong_step_is_found(
    architecture: str, change: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
):
    rule = decoder.Rule
    monkeypatch.setattr(decoder, "Rule", lambda *told: replace(rule(*told), **change))
    said: list[str] = []
    policy = tiny(architecture)
    if architecture == "gemma2":
        policy.model.config.attn_logit_softcapping = 0.01
        for layer in policy.model.model.layers:
            layer.self_attn.attn_logit_softcapping = 0.01
    opened = open_sampler(policy, say=said.append)
    assert told in said[0]
    assert opened.draw(PROMPTS[:1], GREEDY, seed=0)[0].logps is None


def test_a_window_longer_than_the_probe_must_be_told(monkeypatch: pytest.MonkeyPatch):
    policy, said = tiny("mistral"), []
    policy.model.config.sliding_window = 4096
    rule = decoder.Rule
    monkeypatch.setattr(decoder, "Rule", lambda *told: replace(rule(*told), window=None))
    open_sampler(policy, say=said.append)
    assert "does not tell its attention how far back to look" in said[0]


def test_an_empty_prompt_is_refused():
    with pytest.raises(ModelError, match="prompt 1 is empty"):
        draw(tiny("llama"), GREEDY, [PROMPTS[0], PROMPTS[0][:0]])


def test_the_probe_does_not_keep_a_model_alive():
    before = len(sampler._refusals)
    policy = tiny("llama")
    open_sampler(policy, say=pytest.fail)
    assert len(sampler._refusals) == before + 1
    del policy
    import gc

    gc.collect()
    assert len(sampler._refusals) <= before
