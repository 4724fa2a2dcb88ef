"""How much likelier "A" is than "B", against the probabilities of whole replies written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_architectures import texts, tiny

from align.collect._letters import letter_log_odds
from align.models.policy import Policy, load_policy
from align.models.settings import AdapterSettings
from align.types import Message, Prompt


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(tiny(), AdapterSettings(), texts=texts, seed=3)


def logp(policy: Policy, prompt: Prompt, reply: str) -> float:
    """log P(reply | prompt), its end included, one token after the other."""
    ids = list(policy.chat.prompt_ids(prompt))
    total = 0.0
    with torch.no_grad():
        for token in policy.chat.reply_ids(prompt, reply):
            logits = policy.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
            total += float(logits[token] - logits.logsumexp(-1))
            ids.append(int(token))
    return total


def test_the_odds_are_those_of_whole_replies_in_any_batch(policy: Policy):
    policy.model.train()
    questions = [(Message("user", text),) for text in ("hello", "how are you? " * 3, "A or B?")]
    expected = [logp(policy, one, "A") - logp(policy, one, "B") for one in questions]
    np.testing.assert_allclose(letter_log_odds(policy, questions), expected, atol=1e-5)
    np.testing.assert_allclose(letter_log_odds(policy, questions, batch_size=2), expected, atol=1e-5)
    assert policy.model.training
    assert letter_log_odds(policy, []) == []
