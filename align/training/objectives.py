"""What each stage minimises: items -> log-probabilities or scores -> loss.

Each objective says what a batch's loss is divided by (``weight``), so that a batch cut into micro-batches
has the same gradient as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.models.forward import reply_logps, reply_scores
from align.protocols import PairLoss, ScoreLoss
from align.training.loop import Step
from align.types import PairLogps, TokenExample, TokenLogps, TokenPair


@dataclass(frozen=True)
class Imitation:
    """Negative log-likelihood of reply tokens, a mean over the tokens of the whole batch (``stage=sft``)."""

    model: Any
    pad_id: int

    def weight(self, items: Sequence[TokenExample]) -> float:
        """Reply tokens."""
        return float(sum(len(item.reply_ids) for item in items))

    def __call__(self, items: Sequence[TokenExample]) -> Step:
        logps = reply_logps(
            self.model, [item.prompt_ids for item in items], [item.reply_ids for item in items], self.pad_id
        )
        loss = -logps.sums_B().sum()
        tokens = self.weight(items)
        return Step(loss_sum=loss, metrics={"nll": (loss.detach(), tokens)}, tokens=token_count(items))


@dataclass(frozen=True)
class Scoring:
    """A loss over the scores of both replies, a mean over pairs (``stage=reward``)."""

    model: Any
    pad_id: int
    loss: ScoreLoss

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def scores(self, items: Sequence[TokenPair]) -> tuple[Tensor, Tensor]:
        """Scores (B,) of the chosen replies and of the rejected ones."""
        scores_2B = reply_scores(self.model, twice(items), both_replies(items), self.pad_id)
        chosen, rejected = scores_2B.chunk(2)
        return chosen, rejected

    def __call__(self, items: Sequence[TokenPair]) -> Step:
        chosen, rejected = self.scores(items)
        losses = self.loss(chosen, rejected, margins(items, chosen))
        metrics = {
            "accuracy": (share_ahead(chosen, rejected), len(items)),
            "margin": ((chosen - rejected).sum().detach(), len(items)),
            "score_mean": (torch.cat((chosen, rejected)).sum().detach(), 2 * len(items)),
        }
        return Step(loss_sum=losses.sum(), metrics=metrics, tokens=token_count(items))


@dataclass(frozen=True)
class Preference:
    """A pair loss over log-probabilities of policy and reference, a mean over pairs (``stage=dpo``)."""

    model: Any
    pad_id: int
    loss: PairLoss
    reference: Callable[[], AbstractContextManager[Any]]
    """Opens the reference model; used only by losses that need one."""

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def logps(self, items: Sequence[TokenPair]) -> PairLogps:
        """What the loss sees of these pairs: two forward passes at most, both replies in each."""
        policy = reply_logps(self.model, twice(items), both_replies(items), self.pad_id)
        reference = None
        if self.loss.needs_reference:
            with torch.no_grad(), self.reference() as model:
                reference = reply_logps(model, twice(items), both_replies(items), self.pad_id)
        return pair_logps(policy, reference, with_tokens=self.loss.needs_tokens)

    def __call__(self, items: Sequence[TokenPair]) -> Step:
        logps = self.logps(items)
        values = self.loss(logps)
        chosen, rejected = values.chosen_rewards, values.rejected_rewards
        count = len(items)
        metrics = {
            "rewards/chosen": (chosen.sum(), count),
            "rewards/rejected": (rejected.sum(), count),
            "rewards/margin": ((chosen - rejected).sum(), count),
            "rewards/accuracy": (share_ahead(chosen, rejected), count),
            "logps/chosen": (logps.policy_chosen.sum().detach(), count),
            "logps/rejected": (logps.policy_rejected.sum().detach(), count),
        }
        return Step(loss_sum=values.losses.sum(), metrics=metrics, tokens=token_count(items))


def pair_logps(policy: TokenLogps, reference: TokenLogps | None, *, with_tokens: bool) -> PairLogps:
    """Rows ``2B`` (chosen then rejected) as the pair's two sides."""
    policy_chosen, policy_rejected = policy.sums_B().chunk(2)
    chosen_lengths, rejected_lengths = policy.counts_B().chunk(2)
    reference_chosen, reference_rejected = reference.sums_B().chunk(2) if reference else (None, None)
    return PairLogps(
        policy_chosen=policy_chosen,
        policy_rejected=policy_rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
        policy_tokens=policy if with_tokens else None,
        reference_tokens=reference if with_tokens else None,
    )


def twice(items: Sequence[TokenPair]) -> list[Any]:
    """Each prompt once a reply: rows ``2B``."""
    return [item.prompt_ids for item in items] * 2


def both_replies(items: Sequence[TokenPair]) -> list[Any]:
    """Chosen replies, then rejected ones: rows ``2B``."""
    return [item.chosen_ids for item in items] + [item.rejected_ids for item in items]


def margins(items: Sequence[TokenPair], like: Tensor) -> Tensor | None:
    """Margins (B,) in the data's unit, or None where any pair lacks one."""
    found = [item.margin for item in items]
    if any(margin is None for margin in found):
        return None
    return torch.tensor(found, dtype=like.dtype, device=like.device)


def share_ahead(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How many chosen are ahead, ties counted half: a sum over pairs."""
    return ((chosen > rejected).float() + 0.5 * (chosen == rejected).float()).sum().detach()


def token_count(items: Sequence[TokenExample | TokenPair]) -> int:
    """Real tokens that the forward pass sees: the prompt once a reply, no padding."""
    total = 0
    for item in items:
        if isinstance(item, TokenPair):
            total += 2 * len(item.prompt_ids) + len(item.chosen_ids) + len(item.rejected_ids)
        else:
            total += len(item.prompt_ids) + len(item.reply_ids)
    return total
