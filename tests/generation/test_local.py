from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from align.errors import ModelError, NonFiniteError
from align.generation.local import sample_replies, sample_tokens
from align.models.build import seeded
from align.models.policy import Policy, load_policy
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.settings import SamplingSettings
from align.types import Message, Prompt

pytestmark = pytest.mark.medium

SETTINGS = SamplingSettings(max_new_tokens=12, batch_size=3)
PROMPTS: list[Prompt] = [(Message("user", "hello " * n),) for n in (3, 1, 5, 2, 4, 1, 2)]


def texts() -> Iterator[str]:
    return iter(["hello there, how are you?"] * 20)


def tiny_policy(adapter: str = "none", dropout: float = 0.0) -> Policy:
    shape = ScratchSettings(hidden_size=32, layers=2, heads=2, mlp_size=48, vocab_size=280)
    settings = ModelSettings(scratch=shape, max_length=64, dropout=dropout)
    policy = load_policy(settings, AdapterSettings(kind=adapter, rank=2), texts=texts, seed=0)
    with seeded(1), torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def favour(policy: Policy, token: int) -> Policy:
    """A policy that writes one token nearly always: all logits 0 but one."""
    model = policy.model
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(model.lm_head.weight)))
        model.lm_head.bias[token] = 100.0
    return policy


def test_the_same_seed_gives_the_same_replies_whatever_was_drawn_before(policy: Policy):
    torch.manual_seed(1)
    first = sample_replies(policy, PROMPTS, SETTINGS, seed=5)
    torch.manual_seed(2)
    torch.randn(100)
    assert sample_replies(policy, PROMPTS, SETTINGS, seed=5) == first
    assert sample_replies(policy, PROMPTS, SETTINGS, seed=6) != first


def test_the_callers_generators_and_the_models_mode_are_left_alone():
    policy = tiny_policy(dropout=0.5)
    policy.model.model.layers[0].eval()
    modes = [module.training for module in policy.model.modules()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = sample_replies(policy, PROMPTS, SETTINGS, seed=5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert [module.training for module in policy.model.modules()] == modes
    # no dropout while sampling: the same as from the model without
    assert one == sample_replies(tiny_policy(), PROMPTS, SETTINGS, seed=5)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_temperature_zero_follows_the_largest_logit_of_each_prompt_alone(adapter: str):
    policy = tiny_policy(adapter)
    got = sample_replies(policy, PROMPTS, replace(SETTINGS, temperature=0), seed=0)
    policy.model.eval()
    for prompt, reply in zip(PROMPTS, got, strict=True):
        ids = policy.chat.prompt_ids(prompt).tolist()
        expected: list[int] = []
        with torch.no_grad():
            while len(expected) < 12 and not (expected and expected[-1] in policy.chat.stop_ids):
                logits = policy.model(input_ids=torch.tensor([ids + expected])).logits
                expected.append(int(logits[0, -1].argmax()))
        assert list(reply.token_ids) == expected
        assert reply.text == policy.chat.decode_reply(expected)


def test_a_reply_ends_at_the_stop_token_or_is_marked_as_cut(policy: Policy):
    stop = policy.chat.stop_ids[0]
    ended = sample_replies(favour(tiny_policy(), stop), PROMPTS[:2], SETTINGS, seed=0)
    assert [(one.text, one.token_ids, one.ended) for one in ended] == [("", (stop,), True)] * 2
    letter = policy.tokenizer("q")["input_ids"][0]
    cut = sample_replies(favour(tiny_policy(), letter), PROMPTS[:2], SETTINGS, seed=0)
    assert [(one.text, one.token_ids, one.ended) for one in cut] == [("q" * 12, (letter,) * 12, False)] * 2


def test_replies_are_drawn_from_the_whole_distribution_at_the_temperature(policy: Policy):
    # 3,000 first tokens against softmax(logits / 0.7): within 5 standard errors and 3 draws for every token
    # (a token expected 0.1 times is seen 4 times or more with a chance of 4e-6, far outside the normal tail)
    settings = SamplingSettings(max_new_tokens=1, temperature=0.7, batch_size=1000)
    drawn = sample_replies(policy, [PROMPTS[1]] * 3000, settings, seed=0)
    counts = torch.bincount(
        torch.tensor([one.token_ids[0] for one in drawn]), minlength=len(policy.tokenizer)
    )
    ids = torch.tensor([policy.chat.prompt_ids(PROMPTS[1]).tolist()])
    policy.model.eval()
    with torch.no_grad():
        expected = (policy.model(input_ids=ids).logits[0, -1].double() / 0.7).softmax(-1)
    errors = (expected * (1 - expected) / 3000).sqrt()
    assert ((counts / 3000 - expected).abs() < 5 * errors + 3 / 3000).all()
    # transformers keeps 50 tokens by default; here more than that must have been drawn
    assert (counts > 0).sum() > 60


def test_top_p_keeps_the_smallest_set_that_holds_it(policy: Policy):
    settings = SamplingSettings(max_new_tokens=1, temperature=1.0, top_p=0.3, batch_size=1000)
    drawn = {one.token_ids[0] for one in sample_replies(policy, [PROMPTS[1]] * 2000, settings, seed=0)}
    ids = torch.tensor([policy.chat.prompt_ids(PROMPTS[1]).tolist()])
    policy.model.eval()
    with torch.no_grad():
        probabilities, tokens = policy.model(input_ids=ids).logits[0, -1].softmax(-1).sort(descending=True)
    kept = int((probabilities.cumsum(0) < 0.3).sum()) + 1
    assert drawn <= set(tokens[:kept].tolist())
    assert len(drawn) > kept / 2


def test_a_checkpoints_own_sampling_habits_do_not_leak_in(policy: Policy):
    expected = sample_replies(policy, PROMPTS, SETTINGS, seed=5)
    own = policy.model.generation_config
    own.top_k, own.repetition_penalty, own.do_sample = 1, 3.0, True
    try:
        assert sample_replies(policy, PROMPTS, SETTINGS, seed=5) == expected
        assert policy.model.generation_config is own
    finally:
        own.top_k, own.repetition_penalty, own.do_sample = None, None, None


def test_logits_that_are_not_finite_stop_the_run():
    broken = favour(tiny_policy(), 0)
    with torch.no_grad():
        broken.model.lm_head.bias[0] = float("nan")
    for temperature in (1.0, 0.0):
        with pytest.raises(NonFiniteError, match="logits of the policy are not finite"):
            sample_replies(broken, PROMPTS, replace(SETTINGS, temperature=temperature), seed=0)


def test_progress_counts_replies_and_none_is_fine(policy: Policy):
    told: list[int] = []
    sample_replies(policy, PROMPTS, SETTINGS, seed=0, progress=told.append)
    assert sum(told) == len(PROMPTS)
    assert all(told)
    assert sample_replies(policy, [], SETTINGS, seed=0) == []


def test_a_prompt_without_room_for_its_reply_is_refused(policy: Policy):
    fits = np.full(52, 70, dtype=np.int32)  # 52 + 12 = 64 positions
    assert len(sample_tokens(policy, [fits], SETTINGS, seed=0)[0].token_ids) > 0
    with pytest.raises(ModelError, match=r"prompt 1 has 53 tokens.*max_new_tokens=12.*more than the 64"):
        sample_tokens(policy, [fits, np.append(fits, 70)], SETTINGS, seed=0)
