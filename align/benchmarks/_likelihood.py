"""How likely a policy finds whole sentences, with nothing before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError, ModelError
from align.evaluation.policies import text_logps

if TYPE_CHECKING:
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
    return text_logps(policy, [(prompt, own) for own in ids], batch_size=batch_size)
