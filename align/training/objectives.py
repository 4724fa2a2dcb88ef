"""What each stage minimises: items -> log-probabilities or scores -> loss.

Each objective says what a batch's loss is divided by (``weight``), so that a batch cut into micro-batches
has the same gradient as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from align.packing.forward import Forward
from align.packing.layout import ReplyGroup
from align.protocols import PairLoss, ScoreLoss
from align.tensors import PairLogps, TokenExample, TokenItem, TokenLogps, TokenPair
from align.training.update import Step


@dataclass(frozen=True)
class Imitation:
    """Negative log-likelihood of reply tokens, a mean over the tokens of the whole batch (``stage=sft``)."""

    forward: Forward

    def weight(self, items: Sequence[TokenExample]) -> float:
        """Reply tokens."""
        return float(sum(len(item.reply_ids) for item in items))

    def __call__(self, items: Sequence[TokenExample]) -> Step:
        groups = grouped(items)
        loss = -self.forward.logps(groups).sums_B().sum()
        metrics = {"nll": (loss.detach(), self.weight(items))}
        return Step(loss_sum=loss, metrics=metrics, work=self.forward.work(groups))


@dataclass(frozen=True)
class Scoring:
    """A loss over the scores of both replies, a mean over pairs (``stage=reward``)."""

    forward: Forward
    loss: ScoreLoss

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def scores(self, items: Sequence[TokenPair]) -> tuple[Tensor, Tensor]:
        """Scores (B,) of the chosen replies and of the rejected ones."""
        chosen, rejected = self.forward.scores(grouped(items)).chunk(2)
        return chosen, rejected

    def __call__(self, items: Sequence[TokenPair]) -> Step:
        chosen, rejected = self.scores(items)
        losses = self.loss(chosen, rejected, margins(items, chosen))
        metrics = {
            "accuracy": (share_ahead(chosen, rejected), len(items)),
            "margin": ((chosen - rejected).sum().detach(), len(items)),
            "score_mean": (torch.cat((chosen, rejected)).sum().detach(), 2 * len(items)),
        }
        return Step(loss_sum=losses.sum(), metrics=metrics, work=self.forward.work(grouped(items)))


@dataclass(frozen=True)
class Preference:
    """A pair loss over log-probabilities of policy and reference, a mean over pairs (``stage=dpo``)."""

    forward: Forward
    loss: PairLoss
    reference: Callable[[Sequence[TokenPair]], TokenLogps] | None
    """What the reference says of the same pairs, rows ``2B``; None for losses that need none."""
    temperature: float = 1.0
    """Divides the policy's logits, as it does where the pairs' replies were sampled from it."""

    def weight(self, items: Sequence[TokenPair]) -> float:
        """Pairs."""
        return float(len(items))

    def logps(self, items: Sequence[TokenPair]) -> PairLogps:
        """What the loss sees of these pairs: one forward pass, both replies in it."""
        policy = self.forward.logps(grouped(items), self.temperature)
        reference = self.reference(items) if self.reference is not None else None
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
        return Step(loss_sum=values.losses.sum(), metrics=metrics, work=self.forward.work(grouped(items)))


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


def grouped(items: Sequence[TokenItem]) -> list[ReplyGroup]:
    """Each prompt with its replies: of a pair the chosen one, then the rejected."""
    return [ReplyGroup(item.prompt_ids, item.replies()) for item in items]


def margins(items: Sequence[TokenPair], like: Tensor) -> Tensor | None:
    """Margins (B,) in the data's unit, or None where any pair lacks one."""
    found = [item.margin for item in items]
    if any(margin is None for margin in found):
        return None
    return torch.tensor(found, dtype=like.dtype, device=like.device)


def share_ahead(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How many chosen are ahead, ties counted half: a sum over pairs."""
    return ((chosen > rejected).float() + 0.5 * (chosen == rejected).float()).sum().detach()
