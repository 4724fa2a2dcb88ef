"""What a packed token may attend to. Torch only.

Within a group, a token sees the prompt up to itself and, in a reply, its own reply up to itself; never
another reply, never another group.
"""

from __future__ import annotations

import torch
from torch import Tensor

Groups = tuple[tuple[int, tuple[int, ...]], ...]
"""Tokens of each prompt and of its replies."""


def behind_prompt(
    prompt: int, queries: int, window: int | None, *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Additive mask (queries, prompt + queries): 0 where a token may look, -inf where not.

    Keys are ``prompt`` tokens, then the queries themselves. ``window`` counts the tokens that one may see,
    itself included (Beltagy et al. 2020; as transformers counts it); None looks all the way back.
    """
    at_Q = torch.arange(prompt, prompt + queries, device=device).unsqueeze(-1)
    keys_K = torch.arange(prompt + queries, device=device)
    seen_QK = keys_K <= at_Q
    if window is not None:
        seen_QK &= keys_K > at_Q - window
    mask_QK = torch.zeros(seen_QK.shape, dtype=dtype, device=device)
    return mask_QK.masked_fill_(~seen_QK, float("-inf"))


def groups_and_parts(groups: Groups, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each place's group and part of it (0 the prompt, then its replies), both (length,) int64.

    A token sees a key at or before its own place if their groups are the same and the key's part is 0 or
    the token's own. Places behind the row's end are a group of their own.
    """
    sizes = [size for prompt, replies in groups for size in (prompt, *replies)]
    numbers = [number for number, (_, replies) in enumerate(groups) for _ in range(1 + len(replies))]
    parts = [part for _, replies in groups for part in range(1 + len(replies))]
    repeats = torch.tensor([*sizes, length - sum(sizes)])
    return (
        torch.tensor([*numbers, len(groups)]).repeat_interleave(repeats).to(device),
        torch.tensor([*parts, 0]).repeat_interleave(repeats).to(device),
    )
