"""How likely a policy is to answer "A" rather than "B"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from align.models.forward import reply_logps
from align.models.policy import evaluating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from align.models.policy import Policy
    from align.types import Prompt


def letter_log_odds(policy: Policy, questions: Sequence[Prompt], batch_size: int = 16) -> list[float]:
    """log P(the reply is "A") - log P(the reply is "B") of each question, in nats, at temperature 1.

    Of whole replies, their end included: what a policy that answers with one letter would be sampled from.
    """
    odds: list[float] = []
    with torch.no_grad(), evaluating(policy.model):
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            prompts = [policy.chat.prompt_ids(one) for one in batch]
            a_B, b_B = (
                reply_logps(
                    policy.model,
                    prompts,
                    [policy.chat.reply_ids(one, letter) for one in batch],
                    policy.pad_id,
                )
                .sums_B()
                .double()
                for letter in ("A", "B")
            )
            odds.extend((a_B - b_B).tolist())
    return odds
