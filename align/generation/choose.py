"""Which token comes next, for all rows at once. Torch only. B rows, V vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from align.models.logprobs import token_logps

BLOCK = 64
"""Neighbouring tokens whose probabilities are summed first: a search among the sums, then within one block,
reads the vocabulary once, where a cumulative sum over all of it would be written as well."""


@dataclass(frozen=True)
class Choice:
    """One token a row."""

    tokens_B: Tensor
    """int64."""
    logps_B: Tensor
    """Log-probabilities in nats, under softmax(logits / temperature); of all tokens, also under top_p."""
    finite_B: Tensor
    """Whether a row's logits are all finite (bool); if not, its token means nothing."""


def choose(logits_BV: Tensor, uniforms_B: Tensor, temperature: float, top_p: float) -> Choice:
    """Draws by the inverse of the cumulative distribution, so that a row's draw is its own number's alone.

    Args:
        logits_BV: may be overwritten.
        uniforms_B: in [0, 1), float64; not looked at where ``temperature`` is 0.
        temperature: divides the logits; 0 takes the most likely token, and its untempered log-probability.
        top_p: keeps the smallest set of tokens that holds this probability (Holtzman et al. 2019).
    """
    if logits_BV.dtype in (torch.float16, torch.bfloat16):
        logits_BV = logits_BV.float()
    # a NaN or an infinity makes its row's sum one, and costs no matrix of booleans
    finite_B = logits_BV.sum(-1).isfinite()
    if temperature == 0:
        tokens_B = logits_BV.argmax(-1)
        return Choice(tokens_B, token_logps(logits_BV, tokens_B), finite_B)
    scaled_BV = logits_BV if temperature == 1 else logits_BV.div_(temperature)
    chances_BV = scaled_BV.softmax(-1)
    if top_p < 1:
        tokens_B = _from_the_top(chances_BV, uniforms_B, top_p)
    else:
        tokens_B = inverse_cdf(chances_BV, uniforms_B)
    logps_B = chances_BV.gather(-1, tokens_B.unsqueeze(-1)).squeeze(-1).log()
    return Choice(tokens_B, logps_B, finite_B)


def _from_the_top(chances_BV: Tensor, uniforms_B: Tensor, top_p: float) -> Tensor:
    sorted_BV, order_BV = chances_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    kept_BV = sorted_BV.masked_fill_(before_BV >= top_p, 0.0)
    places_B = inverse_cdf(kept_BV, uniforms_B)
    return order_BV.gather(-1, places_B.unsqueeze(-1)).squeeze(-1)


def inverse_cdf(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The first index (B,) whose cumulative weight exceeds that share of the row's total.

    Weights need not sum to 1; one of 0 is never taken.
    """
    rows, vocabulary = weights_BV.shape
    blocks_BKL = F.pad(weights_BV, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
    sums_BK = blocks_BKL.sum(-1)
    block_B1, rest_B1 = _search(sums_BK, uniforms_B.unsqueeze(-1) * sums_BK.double().sum(-1, keepdim=True))
    inside_BL = blocks_BKL.gather(1, block_B1.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1)
    place_B1, _ = _search(inside_BL, rest_B1)
    # only weights that are NaN lead behind the last one
    return (block_B1 * BLOCK + place_B1).squeeze(-1).clamp_(max=vocabulary - 1)


def _search(weights_BK: Tensor, target_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulative weight first exceeds the target, and what the target leaves of that weight."""
    upto_BK = weights_BK.double().cumsum(-1)
    total_B1 = upto_BK[:, -1:]
    # below the total even after rounding: what is behind the last positive weight is never reached
    target_B1 = torch.minimum(target_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    place_B1 = torch.searchsorted(upto_BK, target_B1, right=True).clamp_(max=weights_BK.shape[-1] - 1)
    before_B1 = upto_BK.gather(-1, place_B1) - weights_BK.gather(-1, place_B1)
    return place_B1, (target_B1 - before_B1).clamp_(min=0.0)
