"""How likely a policy finds texts: replies after their prompts, and sentences with nothing before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from align.errors import DataError, ModelError
from align.models.forward import reply_logps
from align.models.policy import evaluating

if TYPE_CHECKING:
    from align.models.batch import TokenIds
    from align.models.policy import Policy


def sentence_logps(policy: Policy, sentences: Sequence[str], batch_size: int = 32) -> list[float]:
    """Summed log-probability of each sentence's tokens, in nats.

    The first token is predicted from the token that begins a text, or that ends one where there is no such
    token: what lm-evaluation-harness does for an empty context. No chat template takes part.

    Raises:
        DataError: a sentence without tokens, or with more than the policy has positions for.
    """
    tokenizer = policy.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ModelError("the tokenizer has no token that begins or ends a text, to predict a first one from")
    ids = [
        np.array(tokenizer(one, add_special_tokens=False)["input_ids"], dtype=np.int32) for one in sentences
    ]
    for sentence, own in zip(sentences, ids, strict=True):
        if not len(own):
            raise DataError(f"no token stands for the sentence {sentence!r}")
        if policy.positions is not None and len(own) >= policy.positions:
            raise DataError(
                f"{len(own)} tokens, {policy.positions} positions: the policy cannot read {sentence[:80]!r}"
            )
    prompt = np.array([start], dtype=np.int32)
    return text_logps(policy, [(prompt, own) for own in ids], batch_size)


def text_logps(
    policy: Policy, texts: Sequence[tuple[TokenIds, TokenIds]], batch_size: int = 32
) -> list[float]:
    """Summed log-probability of each reply's tokens after its prompt's, in nats; batched by length."""
    order = sorted(range(len(texts)), key=lambda place: sum(map(len, texts[place])))
    found = [0.0] * len(texts)
    with torch.no_grad(), evaluating(policy.model):
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            prompts, replies = zip(*(texts[row] for row in rows), strict=True)
            sums = reply_logps(policy.model, prompts, replies, policy.pad_id).sums_B()
            for row, value in zip(rows, sums.double().tolist(), strict=True):
                found[row] = value
    return found
