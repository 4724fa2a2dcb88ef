"""What each stage minimises: items -> log-probabilities or scores -> loss.

Each objective says what a batch's loss is divided by (``weight``), so that a batch cut into micro-batches
has the same gradient as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from align.distributed.device import autocast
from align.models.flops import PassFlops, pass_flops
from align.models.forward import reply_logps, reply_scores
from align.protocols import PairLoss, ScoreLoss
from align.training.loop import Step
from align.types import PairLogps, TokenExample, TokenLogps, TokenPair, Work


@dataclass(frozen=True)
class Imitation:
    """Negative log-likelihood of reply tokens, a mean over the tokens of the whole batch (``stage=sft``)."""

    model: Any
    pad_id: int
    dtype: torch.dtype = torch.float32
    """What the forward pass multiplies in."""

    def weight(self, items: Sequence[TokenExample]) -> float:
        """Reply tokens."""
        return float(sum(len(item.reply_ids) for item in items))

    def __call__(self, items: Sequence[TokenExample]) -> Step:
        prompts, replies = [item.prompt_ids for item in items], [item.reply_ids for item in items]
        with autocast(_place(self.model), self.dtype):
            logps = reply_logps(self.model, prompts, replies, self.pad_id)
        loss = -logps.sums_B().sum()
        metrics = {"nll": (loss.detach(), self.weight(items))}
        return Step(loss_sum=loss, metrics=metrics, work=padded_work(items, self._cost))

    @cached_property
    def _cost(self) -> PassFlops:
        return pass_flops(self.model)


@dataclass(frozen=True)
class Scoring:
    """A loss over the scores of both replies, a mean over pairs (``stage=reward``)."""

    model: Any
    pad_id: int
    loss: ScoreLoss
    dtype: torch.dtype = torch.float32
    """What the forward pass multiplies in."""

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def scores(self, items: Sequence[TokenPair]) -> tuple[Tensor, Tensor]:
        """Scores (B,) of the chosen replies and of the rejected ones."""
        with autocast(_place(self.model), self.dtype):
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
        work = padded_work(items, self._cost, head_reads="replies")
        return Step(loss_sum=losses.sum(), metrics=metrics, work=work)

    @cached_property
    def _cost(self) -> PassFlops:
        return pass_flops(self.model)


@dataclass(frozen=True)
class Preference:
    """A pair loss over log-probabilities of policy and reference, a mean over pairs (``stage=dpo``)."""

    model: Any
    pad_id: int
    loss: PairLoss
    reference: Callable[[], AbstractContextManager[Any]]
    """Opens the reference model; used only by losses that need one."""
    dtype: torch.dtype = torch.float32
    """What both forward passes multiply in."""

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def logps(self, items: Sequence[TokenPair]) -> PairLogps:
        """What the loss sees of these pairs: two forward passes at most, both replies in each."""
        with autocast(_place(self.model), self.dtype):
            policy = reply_logps(self.model, twice(items), both_replies(items), self.pad_id)
        reference = None
        if self.loss.needs_reference:
            with torch.no_grad(), self.reference() as model, autocast(_place(model), self.dtype):
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
        work = padded_work(items, self._cost)
        return Step(loss_sum=values.losses.sum(), metrics=metrics, work=work)

    @cached_property
    def _cost(self) -> PassFlops:
        return pass_flops(self.model)


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


def padded_work(
    items: Sequence[TokenExample | TokenPair],
    cost: PassFlops,
    *,
    head_reads: Literal["tokens", "replies"] = "tokens",
) -> Work:
    """What a padded batch takes: a row a reply, each with the prompt before it.

    The task itself needs each prompt once, and the head at each reply token, or once a reply.
    """
    rows: list[int] = []
    distinct = read = attended = 0
    for item in items:
        prompt = len(item.prompt_ids)
        replies = (item.chosen_ids, item.rejected_ids) if isinstance(item, TokenPair) else (item.reply_ids,)
        distinct += prompt
        attended += prompt * (prompt + 1) // 2
        for reply in map(len, replies):
            rows.append(prompt + reply)
            distinct += reply
            attended += reply * prompt + reply * (reply + 1) // 2
            read += reply if head_reads == "tokens" else 1
    total, slots = sum(rows), len(rows) * max(rows)
    return Work(distinct, total, total, slots, cost.of(distinct, read, attended))


def _place(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
