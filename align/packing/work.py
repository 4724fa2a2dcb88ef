"""Floating-point operations and tokens that a batch takes, counted from shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from align.packing.layout import ReplyGroup
from align.tensors import Work


@dataclass(frozen=True)
class Cost:
    """What one token costs a model, in multiply-add pairs of its matrices.

    Embedding tables, norms and biases are left out, and so are expert layers whose weights are stacked.
    """

    matrices: int
    """Entries of the matrices that every token meets."""
    trained_matrices: int
    """Those of them that have a gradient."""
    head: int
    """Entries of the output head: each reply token meets it, or each reply's last one (``scores``)."""
    scores: bool
    trained_head: int
    width: int
    """Of a layer's heads together; 0 without attention."""
    windows: tuple[int | None, ...]
    """How far back each layer looks; None for all the way."""


def cost_of(whole: nn.Module, head: nn.Module | None, windows: Sequence[int | None], *, scores: bool) -> Cost:
    """Counts a transformers model's matrices; its output head, ``head``, may share the embedding's."""
    tables = {id(one.weight) for one in whole.modules() if isinstance(one, nn.Embedding)}
    matrices = [one for one in head.parameters() if one.ndim == 2] if head is not None else []
    apart = tables | {id(one) for one in matrices}
    body = [one for one in whole.parameters() if one.ndim == 2 and id(one) not in apart]
    config: Any = whole.config
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    width = heads * (getattr(text, "head_dim", None) or text.hidden_size // heads) if heads else 0
    return Cost(
        matrices=sum(one.numel() for one in body),
        trained_matrices=sum(one.numel() for one in body if one.requires_grad),
        head=sum(one.numel() for one in matrices),
        scores=scores,
        trained_head=sum(one.numel() for one in matrices if one.requires_grad),
        width=width,
        windows=tuple(windows),
    )


def work_of(groups: Sequence[ReplyGroup], cost: Cost, slots: int | None) -> Work:
    """Forward and backward of a batch; ``slots`` is None where prompts stand once and nothing is padded.

    Operations are those that the task needs, whatever path computes it: each prompt once, no padding,
    nothing recomputed (the 'model FLOPs' of Chowdhery et al. 2022, appendix B, over distinct tokens).
    """
    prompts = [len(one.prompt_ids) for one in groups]
    replies = [list(map(len, one.replies)) for one in groups]
    reply_tokens = sum(map(sum, replies))
    distinct = sum(prompts) + reply_tokens
    total = sum(prompt * len(own) for prompt, own in zip(prompts, replies, strict=True)) + reply_tokens
    products = distinct * (2 * cost.matrices + cost.trained_matrices)
    reads = sum(map(len, replies)) if cost.scores else reply_tokens
    products += reads * (2 * cost.head + cost.trained_head)
    pairs = {
        window: sum(_attended(prompt, own, window) for prompt, own in zip(prompts, replies, strict=True))
        for window in set(cost.windows)
    }
    # queries by keys and weights by values, once forward and twice backward
    attention = sum(6 * cost.width * pairs[window] for window in cost.windows)
    return Work(
        distinct=distinct,
        total=total,
        computed=distinct if slots is None else total,
        slots=distinct if slots is None else slots,
        flops=2.0 * (products + attention),
    )


def _attended(prompt: int, replies: Sequence[int], window: int | None) -> int:
    """(query, key) pairs of one group: a token sees its prompt and its reply up to itself."""

    def causal(queries: int, before: int) -> int:
        if window is None or before + queries <= window:
            return queries * before + queries * (queries + 1) // 2
        return int(np.minimum(np.arange(before + 1, before + queries + 1), window).sum())

    return causal(prompt, 0) + sum(causal(reply, prompt) for reply in replies)
