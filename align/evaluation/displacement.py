"""Likelihood displacement: which pairs push the chosen reply's own probability down. Torch only.

Legend: B pairs, T tokens, H hidden units. Rows need not be aligned between the two sides.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ches(
    chosen_BTH: Tensor,
    chosen_mask_BT: Tensor,
    rejected_BTH: Tensor,
    rejected_mask_BT: Tensor,
    *,
    per_token: bool = False,
) -> Tensor:
    """Centred hidden embedding similarity (B,) of each pair (Razin et al. 2024, definition 2).

    <h+, h-> - |h+|², with h± the sum over a reply's tokens of the last hidden state that predicts each. The
    higher it is, the more preference training moves probability away from the chosen reply.

    Args:
        chosen_BTH: last hidden states of prompt and reply, before the output matrix.
        chosen_mask_BT: bool, True where the state predicts a reply token: from the prompt's last token to
            the reply's last but one. What stands elsewhere is not read.
        per_token: takes means in place of sums, so that pairs of other lengths compare (the paper's
            length-normalised score).
    """
    chosen_BH = _summed(chosen_BTH, chosen_mask_BT, per_token)
    rejected_BH = _summed(rejected_BTH, rejected_mask_BT, per_token)
    return (chosen_BH * (rejected_BH - chosen_BH)).sum(-1)


def _summed(hidden_BTH: Tensor, mask_BT: Tensor, per_token: bool) -> Tensor:
    kept_BTH = hidden_BTH.where(mask_BT.unsqueeze(-1), torch.zeros_like(hidden_BTH))
    sums_BH = kept_BTH.sum(1)
    return sums_BH / mask_BT.sum(-1, keepdim=True).clamp(min=1) if per_token else sums_BH
