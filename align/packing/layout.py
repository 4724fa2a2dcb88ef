"""One prompt, all its replies, many groups in one row: token order, positions, what predicts what.

A batch of B groups with n replies each becomes one row of T tokens without padding: a group's prompt, then
its replies, then the next group. Legend: T tokens of the row, R reply tokens among them, N = n * B replies.
Replies are numbered first replies first: rows 0..B-1 are every group's first reply (for pairs: chosen),
then every group's second (rejected). Torch and numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.errors import ModelError
from align.tensors import TokenLogps

TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class ReplyGroup:
    """A prompt and the replies that share it."""

    prompt_ids: TokenIds
    replies: tuple[TokenIds, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything of a packed row lies. All tensors are int64."""

    input_ids_T: Tensor
    positions_T: Tensor
    """Each reply continues from its prompt, as if it stood alone behind it."""
    predictors_R: Tensor
    """Place of the token whose output predicts a reply token: the one before, or the prompt's last."""
    labels_R: Tensor
    replies_R: Tensor
    """Which reply a token belongs to, in 0..N-1."""
    steps_R: Tensor
    """Its place within that reply, from 0."""
    last_N: Tensor
    """Place of each reply's last token."""
    groups: tuple[tuple[int, tuple[int, ...]], ...]
    """Tokens of each prompt and of its replies, in the row's order."""
    made: dict[object, Any] = field(default_factory=dict, repr=False)
    """Masks and plans that attention made for this row, kept for its other layers."""
    windows: dict[int, int | None] = field(default_factory=dict, repr=False)
    """How far back each layer that attended to this row looks: by the layer, filled by the layers."""

    def by_reply(self, values_R: Tensor) -> TokenLogps:
        """Values of reply tokens as one row a reply, aligned on the left, 0 behind a reply's end."""
        longest = max(max(replies) for _, replies in self.groups)
        shape, place = (len(self.last_N), longest), (self.replies_R, self.steps_R)
        return TokenLogps(
            values_R.new_zeros(shape).index_put(place, values_R),
            torch.zeros(shape, dtype=torch.bool, device=values_R.device).index_put(
                place, torch.ones_like(self.replies_R, dtype=torch.bool)
            ),
        )

    def to(self, device: torch.device) -> Layout:
        """The same layout on another device."""
        return Layout(
            self.input_ids_T.to(device),
            self.positions_T.to(device),
            self.predictors_R.to(device),
            self.labels_R.to(device),
            self.replies_R.to(device),
            self.steps_R.to(device),
            self.last_N.to(device),
            self.groups,
        )


def lay_out(groups: Sequence[ReplyGroup]) -> Layout:
    """The row of a batch.

    Raises:
        ModelError: an empty prompt or reply (its first token would have nothing to be predicted from), or
            groups with unlike numbers of replies.
    """
    check_groups(groups)
    count, size = len(groups), len(groups[0].replies)
    last = np.empty(size * count, dtype=np.int64)
    ids: list[TokenIds] = []
    positions, predictors, replies_of, steps = [], [], [], []
    at = 0
    for number, group in enumerate(groups):
        prompt = len(group.prompt_ids)
        ids += [group.prompt_ids, *group.replies]
        positions.append(np.arange(prompt))
        before = at + prompt - 1
        at += prompt
        for order, reply in enumerate(group.replies):
            row, length = order * count + number, len(reply)
            positions.append(np.arange(prompt, prompt + length))
            predictors.append(np.concatenate(([before], np.arange(at, at + length - 1))))
            replies_of.append(np.full(length, row))
            steps.append(np.arange(length))
            at += length
            last[row] = at - 1

    def joined(parts: Sequence[NDArray[np.int64] | TokenIds]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    return Layout(
        input_ids_T=joined(ids),
        positions_T=joined(positions),
        predictors_R=joined(predictors),
        labels_R=joined([reply for group in groups for reply in group.replies]),
        replies_R=joined(replies_of),
        steps_R=joined(steps),
        last_N=torch.from_numpy(last),
        groups=tuple((len(one.prompt_ids), tuple(map(len, one.replies))) for one in groups),
    )


def check_groups(groups: Sequence[ReplyGroup]) -> None:
    """Raises ``ModelError`` where ``lay_out`` does."""
    for row, group in enumerate(groups):
        if not len(group.prompt_ids) or not all(map(len, group.replies)):
            empty = "reply" if len(group.prompt_ids) else "prompt"
            raise ModelError(f"row {row} of the batch has an empty {empty}")
        if len(group.replies) != len(groups[0].replies):
            raise ModelError(
                f"row {row} of the batch has {len(group.replies)} replies, row 0 has {len(groups[0].replies)}"
            )
