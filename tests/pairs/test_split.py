"""The split by prompt: a function of the prompt alone, in the fractions asked for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.pairs.split import fold_split, prompt_bytes, split_of
from align.types import Message

messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text())
prompts = st.lists(messages, min_size=1, max_size=4).map(tuple)


@settings(deadline=None)
@given(prompts, st.integers(0, 2**64), st.floats(0, 0.5), st.floats(0, 0.4))
def test_a_prompt_has_one_split_whatever_surrounds_it(prompt, seed, test, validation):
    first = split_of(prompt, seed, test, validation)
    again = tuple(Message(message.role, message.content) for message in prompt)
    assert split_of(again, seed, test, validation) == first
    # a larger share never moves a prompt out of the test set
    if first == "test":
        assert split_of(prompt, seed, min(test * 1.5, 0.59), validation) == "test"
    assert split_of(prompt, seed, 0.0, 0.0) == "train"


@settings(deadline=None)
@given(prompts, prompts)
def test_different_prompts_have_different_bytes(one, other):
    assert (prompt_bytes(one) == prompt_bytes(other)) == (one == other)


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_the_shares_are_those_asked_for(seed):
    """20,000 prompts: the test share has standard deviation sqrt(0.1 * 0.9 / 20000) = 0.0021; 4 of them."""
    counts = Counter(split_of((Message("user", str(i)),), seed, 0.1, 0.05) for i in range(20_000))
    assert counts["test"] / 20_000 == pytest.approx(0.1, abs=0.0085)
    assert counts["validation"] / 20_000 == pytest.approx(0.05, abs=0.0062)


def test_another_seed_draws_another_split():
    """Two independent tenths share a hundredth of 5,000 prompts: 50, with standard deviation 7."""
    tests = [
        {i for i in range(5000) if split_of((Message("user", str(i)),), seed, 0.1, 0.0) == "test"}
        for seed in (0, 1)
    ]
    assert 22 < len(tests[0] & tests[1]) < 78


@pytest.mark.parametrize("seed", [0, 1])
def test_folds_part_the_prompts_evenly_and_validation_is_the_same_in_all(seed):
    """12,000 prompts in 4 folds: 3,000 each, with a standard deviation of 47; 4 of them."""
    prompts = [(Message("user", str(i)),) for i in range(12_000)]
    splits = [[fold_split(prompt, seed, 4, fold, 0.1) for prompt in prompts] for fold in range(4)]
    for whole in splits:
        assert whole.count("test") == pytest.approx(3000, abs=190)
    for drawn in zip(*splits, strict=True):
        assert drawn.count("test") == 1
        assert len(set(drawn) - {"test"}) == 1, "validation in one fold, training in another"
    shares = Counter(drawn for drawn in splits[0] if drawn != "test")
    assert shares["validation"] / shares.total() == pytest.approx(0.1, abs=0.013)
