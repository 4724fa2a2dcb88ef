"""What ``stage=kto`` minimises: a loss over labelled replies, beside replies to other prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from align.packing.forward import Forward
from align.protocols import UnpairedLoss
from align.tensors import TokenLogps, TokenUnpaired, UnpairedLogps, Work
from align.training.objectives import grouped
from align.training.update import Items, Step


@dataclass(frozen=True)
class Mismatched:
    """Prompts with the reply before them: of the items in ``order``, cut into rounds of ``size``.

    Rounds do not cross the batches of ``batch`` items; without batches, all items are one.

    Each prompt gets the reply of the item before it in its round, the first that of the last
    (Ethayarajh et al. 2024, section 4.1, where the rounds are micro-batches), so that no reply is left out.
    A prompt that this leaves too little room of ``max_length`` tokens loses its oldest ones.
    """

    items: Items[TokenUnpaired]
    order: Sequence[int]
    size: int
    max_length: int
    batch: int | None = None

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> TokenUnpaired:
        within = index % self.batch if self.batch else index
        start = index - within % self.size
        end = index - within + self.batch if self.batch else len(self.order)
        size = min(self.size, end - start, len(self.order) - start)
        item, other = (self.items[self.order[at]] for at in (index, start + (index - start - 1) % size))
        room = self.max_length - len(other.reply_ids)
        return replace(item, prompt_ids=item.prompt_ids[-room:], reply_ids=other.reply_ids)


@dataclass(frozen=True)
class Unpaired:
    """A loss over labelled replies under policy and reference, a mean over replies (``stage=kto``)."""

    forward: Forward
    loss: UnpairedLoss
    reference: Callable[[Sequence[TokenUnpaired]], TokenLogps]
    """What the reference says of the same replies, and of the mismatched ones."""
    max_length: int
    """Tokens of prompt and reply together, at most."""

    def weight(self, items: Sequence[TokenUnpaired]) -> float:
        """Replies."""
        return float(len(items))

    def logps(self, items: Sequence[TokenUnpaired], mismatched: Sequence[TokenUnpaired]) -> UnpairedLogps:
        """What the loss sees of these replies: a forward pass, and one without gradients if it needs it."""
        others: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if mismatched:
            with torch.no_grad():
                drifted = self.forward.logps(grouped(mismatched)).sums_B()
            others = (drifted, self.reference(mismatched).sums_B())
        policy = self.forward.logps(grouped(items)).sums_B()
        desirable = torch.tensor([item.desirable for item in items], device=policy.device)
        return UnpairedLogps(policy, self.reference(items).sums_B(), desirable, *others)

    def mismatched(self, items: Sequence[TokenUnpaired]) -> list[TokenUnpaired]:
        """Each prompt of a micro-batch with another one's reply; nothing for a loss that looks at none."""
        if not self.loss.needs_mismatched:
            return []
        others = Mismatched(items, range(len(items)), len(items), self.max_length)
        return [others[i] for i in range(len(items))]

    def __call__(self, items: Sequence[TokenUnpaired]) -> Step:
        mismatched = self.mismatched(items)
        logps = self.logps(items, mismatched)
        values = self.loss(logps)
        good, bad, count = logps.desirable, ~logps.desirable, len(items)
        desirable = int(good.sum())
        metrics: dict[str, tuple[float | Tensor, float]] = {
            "rewards/chosen": (values.rewards[good].sum(), desirable),
            "rewards/rejected": (values.rewards[bad].sum(), count - desirable),
            "logps/chosen": (logps.policy[good].sum().detach(), desirable),
            "logps/rejected": (logps.policy[bad].sum().detach(), count - desirable),
            "kl": (values.baselines.sum(), count),
        }
        if 0 < desirable < count:
            margin = values.rewards[good].mean() - values.rewards[bad].mean()
            metrics["rewards/margin"] = (margin * count, count)
        work = self.forward.work(grouped(items))
        if mismatched:
            work += _without_backward(self.forward.work(grouped(mismatched)))
        return Step(loss_sum=values.losses.sum(), metrics=metrics, work=work)


def _without_backward(work: Work) -> Work:
    """A forward pass is a third of forward and backward."""
    return replace(work, flops=work.flops / 3)
