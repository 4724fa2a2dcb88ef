"""What an iteration learns from: sampled replies, their scores, and what was thought of them at the time.

Legend: B prompts, R replies to each, N = R * B replies, T tokens. Reply i of prompt b is row i * B + b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.packing.layout import ReplyGroup
from align.tensors import SampledReply, TokenLogps

TokenIds = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Rollout:
    """The replies of an iteration; tensors are float32 on the policy's device, and carry no gradient."""

    groups: tuple[ReplyGroup, ...]
    """B prompts, each with its replies."""
    replies: tuple[SampledReply, ...]
    scores_N: Tensor
    """Of the reward model, as it gave them."""
    ended_N: Tensor
    """bool: whether a reply ended by itself."""
    old: TokenLogps
    """The policy's log-probabilities before the first update, at the temperature of sampling."""
    reference: TokenLogps | None
    """The reference's, at the same temperature; None where nothing asks for it."""
    values_NT: Tensor | None
    """The critic's; None without one."""
    weights_NT: Tensor | None = None
    """What each token's loss is multiplied by (``rollout.importance_cap``); None for one."""

    @property
    def mask_NT(self) -> Tensor:
        """bool: reply tokens."""
        return self.old.mask_BT

    @property
    def weighted_NT(self) -> Tensor:
        """1 at reply tokens, or their weights: what makes a sum over them one over the policy's own."""
        return self.mask_NT.float() if self.weights_NT is None else self.weights_NT

    def rows(self, prompts: Sequence[int]) -> Tensor:
        """Rows of all replies to these prompts, in the order that ``Forward`` gives theirs."""
        count = len(self.groups)
        per_prompt = len(self.groups[0].replies)
        return torch.tensor([order * count + one for order in range(per_prompt) for one in prompts])

    def part(self, values_NT: Tensor, prompts: Sequence[int]) -> Tensor:
        """The rows of these prompts, as wide as their longest reply."""
        rows = self.rows(prompts).to(values_NT.device)
        width = int(self.mask_NT[rows].sum(-1).max())
        return values_NT[rows, :width]


def grouped_replies(
    prompt_ids: Sequence[TokenIds], replies: Sequence[SampledReply], per_prompt: int
) -> tuple[ReplyGroup, ...]:
    """Each prompt with its replies."""
    ids = [np.asarray(reply.token_ids, dtype=np.int32) for reply in replies]
    count = len(prompt_ids)
    return tuple(
        ReplyGroup(prompt, tuple(ids[order * count + b] for order in range(per_prompt)))
        for b, prompt in enumerate(prompt_ids)
    )


def by_reply(rows: Sequence[NDArray[np.float32]], device: torch.device) -> TokenLogps:
    """Numbers of each reply's tokens as (N, T), aligned on the left."""
    lengths = torch.tensor([len(row) for row in rows])
    mask_NT = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
    values_NT = torch.zeros(mask_NT.shape)
    values_NT[mask_NT] = torch.from_numpy(np.concatenate(list(rows)).astype(np.float32))
    return TokenLogps(values_NT.to(device), mask_NT.to(device))


def sampled_logps(replies: Sequence[SampledReply], old: TokenLogps) -> Tensor | None:
    """What was written down while sampling (N, T); ``old`` in rows of which nothing was.

    None where nothing was written down at all.
    """
    said = [reply.logps for reply in replies]
    if all(one is None for one in said):
        return None
    rows = [
        np.zeros(len(reply.token_ids), np.float32) if reply.logps is None else reply.logps
        for reply in replies
    ]
    known_N = torch.tensor([one is not None for one in said], device=old.mask_BT.device)
    return by_reply(rows, old.mask_BT.device).logps_BT.where(known_N.unsqueeze(-1), old.logps_BT)


def in_parts(parts: Sequence[tuple[Sequence[int], Tensor]], like: Rollout | TokenLogps) -> Tensor:
    """Rows that were computed a part at a time (their numbers, their values) as one (N, T)."""
    mask_NT = like.mask_NT if isinstance(like, Rollout) else like.mask_BT
    values_NT = torch.zeros(mask_NT.shape, device=mask_NT.device)
    for rows, values in parts:
        values_NT[torch.as_tensor(rows, device=values_NT.device), : values.shape[1]] = values.float()
    return values_NT
