"""Logits to log-probabilities of given tokens. Torch only.

Legend: B rows, T positions, V vocabulary. Nothing here shifts: ``labels_BT[b, t]`` is the token that
``logits_BTV[b, t]`` predicts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_logps(logits_BTV: Tensor, labels_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability (B, T), in nats, of each label under ``softmax(logits / temperature)``.

    Half precision is widened to float32 first: a bf16 log-softmax is off by up to 0.1 nats a token.
    Labels must be valid token ids; mask what does not count afterwards.
    """
    if logits_BTV.dtype in (torch.float16, torch.bfloat16):
        logits_BTV = logits_BTV.float()
    if temperature != 1.0:
        logits_BTV = logits_BTV / temperature
    picked_BT = logits_BTV.gather(-1, labels_BT.unsqueeze(-1)).squeeze(-1)
    return picked_BT - logits_BTV.logsumexp(-1)


def token_entropy(logits_BTV: Tensor) -> Tensor:
    """Entropy (B, T), in nats, of each next-token distribution."""
    logps_BTV = logits_BTV.log_softmax(-1)
    return -(logps_BTV.exp() * logps_BTV).sum(-1)
