"""Prompts and replies as one padded batch. Torch and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class ReplyBatch:
    """Rows of prompt and reply, padded on the right.

    ``input_ids_BT`` (int64), ``attention_mask_BT`` (int64; 1 where there is a token) and
    ``reply_mask_BT`` (bool; True at reply tokens). A mask says what is padding, never a token id.
    """

    input_ids_BT: Tensor
    attention_mask_BT: Tensor
    reply_mask_BT: Tensor

    def to(self, device: torch.device) -> ReplyBatch:
        """The same batch on another device."""
        return ReplyBatch(
            self.input_ids_BT.to(device), self.attention_mask_BT.to(device), self.reply_mask_BT.to(device)
        )


def pad_replies(prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int) -> ReplyBatch:
    """One row a reply: its prompt, then itself, then padding up to the longest row.

    For pairs, pass chosen replies then rejected ones with their prompts twice: rows are ``2B``, chosen first.
    """
    lengths = [len(prompt) + len(reply) for prompt, reply in zip(prompts, replies, strict=True)]
    shape = (len(lengths), max(lengths))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    reply_mask = np.zeros(shape, dtype=bool)
    for row, (prompt, reply, length) in enumerate(zip(prompts, replies, lengths, strict=True)):
        input_ids[row, : len(prompt)] = prompt
        input_ids[row, len(prompt) : length] = reply
        attention_mask[row, :length] = 1
        reply_mask[row, len(prompt) : length] = True
    return ReplyBatch(
        torch.from_numpy(input_ids), torch.from_numpy(attention_mask), torch.from_numpy(reply_mask)
    )
