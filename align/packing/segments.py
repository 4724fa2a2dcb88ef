"""Attention over a packed row, a segment at a time: exact and without masked work, on any device. Torch only.

Legend: H heads, T tokens of the row, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from align.packing.layout import Layout
from align.packing.mask import behind_prompt

PLAIN = 512 * 512
"""Queries by keys of a segment up to which a CPU is faster step by step than in its flash kernel, which
recomputes in the backward pass what is kept here: 1 MB a head at most."""


@dataclass(frozen=True)
class Rule:
    """How one layer attends."""

    scale: float
    """Factor of the products of queries and keys."""
    dropout: float
    """Probability that a weight is dropped."""
    window: int | None
    """Tokens that one may look back over, itself included; None for all."""
    softcap: float | None
    """A score s becomes ``softcap * tanh(s / softcap)``; None leaves it."""


def segments(query_HTD: Tensor, key_HTD: Tensor, value_HTD: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Attention's output (H, T, D): each prompt with its first reply, then the other replies behind it."""
    cuts = [length for prompt, replies in layout.groups for length in (prompt + replies[0], *replies[1:])]
    # split, not slices: the gradient of a slice is a row of zeros as long as the batch
    queries, keys, values = (iter(torch.split(one, cuts, 1)) for one in (query_HTD, key_HTD, value_HTD))
    found: list[Tensor] = []
    for prompt, replies in layout.groups:
        key, value = next(keys), next(values)
        found.append(_attend(next(queries), key, value, 0, layout, rule))
        for _ in replies[1:]:
            own_key = torch.cat((key[:, :prompt], next(keys)), 1)
            own_value = torch.cat((value[:, :prompt], next(values)), 1)
            found.append(_attend(next(queries), own_key, own_value, prompt, layout, rule))
    return torch.cat(found, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, prompt: int, layout: Layout, rule: Rule) -> Tensor:
    """Queries that come behind ``prompt`` keys and see all of those that the window leaves."""
    window = rule.window if rule.window is not None and rule.window < key.shape[1] else None
    causal = prompt == 0 and window is None
    if rule.softcap is None and (query.device.type != "cpu" or query.shape[1] * key.shape[1] > PLAIN):
        mask = None if causal else _mask(layout, prompt, query, window).unsqueeze(0)
        # with a batch dimension: without one, no flash kernel takes it
        whole = F.scaled_dot_product_attention(
            query[None], key[None], value[None], mask, rule.dropout, causal, scale=rule.scale
        )
        return whole[0]
    return plain_attention(query, key, value, _mask(layout, prompt, query, window), rule)


def _mask(layout: Layout, prompt: int, query: Tensor, window: int | None) -> Tensor:
    """(1, queries, keys), to be added."""
    name = (prompt, query.shape[1], window, query.dtype)
    if name not in layout.made:
        layout.made[name] = behind_prompt(
            prompt, query.shape[1], window, dtype=query.dtype, device=query.device
        ).unsqueeze(0)
    found: Tensor = layout.made[name]
    return found


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rule: Rule) -> Tensor:
    """Attention (N, T, D) step by step, ``mask`` (1 or N, T, keys) added to the scores.

    With ``rule.softcap`` c a score s becomes c * tanh(s / c) before the mask (Gemma Team 2024, section 2).
    """
    if rule.softcap is None:
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=rule.scale)
    else:
        products = torch.bmm(query, key.transpose(1, 2))
        scores = torch.tanh(products * (rule.scale / rule.softcap)) * rule.softcap + mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(F.dropout(weights, rule.dropout) if rule.dropout else weights, value)
