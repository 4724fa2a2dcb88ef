"""Packed attention under names that transformers' models look up.

A model whose attention is one of ``KERNELS`` takes plain inputs as before, through SDPA, and a packed row
where its forward is given ``packed=layout``. The layout travels down as a keyword argument, so that layers
which are recomputed in the backward pass get it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from align.models.virtual import with_prefix
from align.packing.cuda import flex, varlen
from align.packing.layout import Layout
from align.packing.segments import Rule, plain_attention, segments

Kernel = Callable[[Tensor, Tensor, Tensor, Layout, Rule], Tensor]
"""(query, key, value (H, T, D), layout, rule) -> output (H, T, D)."""

KERNELS: dict[str, Kernel] = {"segments": segments, "varlen": varlen, "flex": flex}


def set_attention(model: Any, kernel: str) -> None:
    """Makes a transformers model attend through a kernel.

    Raises:
        ValueError, KeyError: the architecture's attention cannot be exchanged.
    """
    name = f"align_{kernel}"
    AttentionInterface.register(name, partial(_attention, KERNELS[kernel]))
    AttentionMaskInterface.register(name, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise ValueError(f"its attention stays {before}")


@torch.compiler.disable  # type: ignore[untyped-decorator]  # cut by lengths that change with every row: each would be a version of its own
def _attention(
    kernel: Kernel,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """One layer's attention: (1 or B, H, T, D) -> (1 or B, T, H, D), as transformers wants it."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    rule = Rule(scale, dropout, sliding_window, softcap)
    if packed is None and softcap is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    if packed is not None:
        own = with_prefix(module, packed.input_ids_T, key[0], value[0])
        key, value = own[0].unsqueeze(0), own[1].unsqueeze(0)
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    if packed is None:
        mask = _additive(attention_mask, query, key).expand(*query.shape[:3], key.shape[2])
        rows = [one.flatten(0, 1) for one in (query, key, value, mask)]
        out = plain_attention(rows[0], rows[1], rows[2], rows[3], rule).view_as(query)
    else:
        packed.windows[id(module)] = rule.window
        out = kernel(query[0], key[0], value[0], packed, rule).unsqueeze(0)
    return out.transpose(1, 2).contiguous(), None


def _additive(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
    """A mask to add: transformers gives booleans, or nothing where all is plainly causal."""
    if mask is None:
        shape = (query.shape[-2], key.shape[-2])
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril(shape[1] - shape[0])
    if mask.dtype != torch.bool:
        return mask
    # not -inf: a row of padding sees nothing, and its softmax would be NaN
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, lowest)
