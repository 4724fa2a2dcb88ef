"""Attention over a packed row in one kernel, for CUDA. Torch only; legend as in ``segments``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.packing.layout import Layout
from align.packing.mask import groups_and_parts
from align.packing.segments import Rule

BLOCK = 128
"""Side of the blocks that flex attention computes or leaves out whole; rows are padded to it."""
NARROWEST = 16
"""Width of a head from which on flex attention is compiled; zeros behind a narrower one change nothing."""


@dataclass(frozen=True)
class Spans:
    """The segments of ``segments`` for a kernel that takes sequences of unlike lengths."""

    keys_K: Tensor
    """Places of all segments' keys, end to end: a prompt stands there once a reply."""
    queries_end: Tensor
    """Where each segment's queries end, after a 0 (int32)."""
    keys_end: Tensor
    longest_query: int
    longest_key: int


def varlen(query_HTD: Tensor, key_HTD: Tensor, value_HTD: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Flash attention over all segments: half precision, no soft cap, no dropout.

    The kernel aligns queries that are fewer than their keys with the last of them, which is where a reply
    stands behind its prompt.
    """
    from torch.nn.attention.varlen import varlen_attn

    if rule.softcap is not None or rule.dropout:
        raise ValueError("it takes neither soft caps nor dropout")
    query_HTD, key_HTD = query_HTD.to(value_HTD.dtype), key_HTD.to(value_HTD.dtype)  # see ``flex``
    spans = spans_of(layout, query_HTD.device)
    found = varlen_attn(
        query_HTD.transpose(0, 1),
        key_HTD.transpose(0, 1).index_select(0, spans.keys_K),
        value_HTD.transpose(0, 1).index_select(0, spans.keys_K),
        spans.queries_end,
        spans.keys_end,
        spans.longest_query,
        spans.longest_key,
        scale=rule.scale,
        window_size=(-1 if rule.window is None else rule.window - 1, 0),
    )
    assert isinstance(found, Tensor)  # a second value comes only where it is asked for
    return found.transpose(0, 1)


def spans_of(layout: Layout, device: torch.device) -> Spans:
    """Made once a row."""
    if "spans" not in layout.made:
        keys: list[Tensor] = []
        queries: list[int] = []
        at = 0
        for prompt, replies in layout.groups:
            prompt_keys, at = torch.arange(at, at + prompt), at + prompt
            for order, reply in enumerate(replies):
                keys.append(torch.cat((prompt_keys, torch.arange(at, at + reply))))
                queries.append(reply if order else prompt + reply)
                at += reply
        counts = list(map(len, keys))
        layout.made["spans"] = Spans(
            torch.cat(keys).to(device),
            torch.tensor([0, *queries]).cumsum(0, dtype=torch.int32).to(device),
            torch.tensor([0, *counts]).cumsum(0, dtype=torch.int32).to(device),
            max(queries),
            max(counts),
        )
    found: Spans = layout.made["spans"]
    return found


def flex(query_HTD: Tensor, key_HTD: Tensor, value_HTD: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Block-sparse flex attention (Dong et al. 2024): blocks that hold no allowed pair are not computed."""
    if rule.dropout:
        raise ValueError("it takes no dropout")
    # under autocast, positions turned in float32 leave queries and keys wider than values
    query_HTD, key_HTD = query_HTD.to(value_HTD.dtype), key_HTD.to(value_HTD.dtype)
    length, width = query_HTD.shape[1:]
    padding, narrow = -length % BLOCK, max(0, NARROWEST - width)
    query, key, value = (
        torch.nn.functional.pad(one, (0, narrow, 0, padding)).unsqueeze(0)
        for one in (query_HTD, key_HTD, value_HTD)
    )
    attend = _flex_attention(query.device.type)
    found: Tensor = attend(
        query,
        key,
        value,
        score_mod=None if rule.softcap is None else _soft_capped(rule.softcap),
        block_mask=_block_mask(layout, length + padding, rule.window, query.device),
        scale=rule.scale,
    )
    return found[0, :, :length, :width]


@functools.cache
def _flex_attention(device: str) -> Any:
    """Compiled where that is what makes it fast; rows differ in length, so shapes are dynamic."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention


@functools.cache
def _soft_capped(softcap: float) -> Callable[..., Tensor]:
    def cap(score: Tensor, *_place: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def _block_mask(layout: Layout, length: int, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    name = ("blocks", window)
    if name not in layout.made:
        group_T, part_T = groups_and_parts(layout.groups, length, device)
        position_T = torch.nn.functional.pad(layout.positions_T, (0, length - len(layout.positions_T)))

        def allowed(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            same = (group_T[query] == group_T[key]) & ((part_T[key] == 0) | (part_T[key] == part_T[query]))
            seen = same & (key <= query)
            if window is None:
                return seen
            # by position: a later reply stands farther from its prompt in the row than in its text
            return seen & (position_T[key] > position_T[query] - window)

        layout.made[name] = create_block_mask(allowed, None, None, length, length, device=str(device))
    return layout.made[name]
