"""Log-probabilities and scores of replies, from padded batches. B replies, T tokens, V vocabulary."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from align.errors import ModelError
from align.models.batch import ReplyBatch, pad_replies
from align.models.logprobs import token_logps
from align.models.save import plain_model
from align.types import TokenLogps

TokenIds = NDArray[np.int32]


def reply_logps(
    model: Any,
    prompts: Sequence[TokenIds],
    replies: Sequence[TokenIds],
    pad_id: int,
    temperature: float = 1.0,
) -> TokenLogps:
    """Log-probabilities, in nats, of each reply's tokens given its prompt and the tokens before.

    Rows are replies, aligned on the left: ``logps_BT[b, t]`` belongs to ``replies[b][t]``, and T is the
    longest reply. The output head runs on those positions only. ``temperature`` divides the logits, as
    it does while sampling. Rows do not depend on what they are batched with, up to rounding.

    Raises:
        ModelError: an empty prompt or reply: its first token would have nothing to be predicted from.
    """
    batch = _batch(prompts, replies, pad_id).to(_device(model))
    lengths_B = batch.reply_mask_BT.sum(-1)
    steps_T = torch.arange(int(lengths_B.max()), device=lengths_B.device)
    mask_BT = steps_T < lengths_B.unsqueeze(-1)
    first_B = batch.reply_mask_BT.int().argmax(-1)
    # positions behind a short reply's end point at its last token, and are masked
    places_BT = torch.minimum(first_B.unsqueeze(-1) + steps_T, (first_B + lengths_B - 1).unsqueeze(-1))
    logits_BTV = _logits_at(model, batch, places_BT - 1)
    logps_BT = token_logps(logits_BTV, batch.input_ids_BT.gather(-1, places_BT), temperature)
    return TokenLogps(logps_BT.masked_fill(~mask_BT, 0.0), mask_BT)


def reply_scores(
    scalar: nn.Module, prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int
) -> Tensor:
    """Scores (B,) of replies by ``ScalarModel.model``, read at each reply's last token.

    Raises:
        ModelError: an empty prompt or reply.
    """
    batch = _batch(prompts, replies, pad_id).to(_device(scalar))
    scores: Tensor = scalar(batch.input_ids_BT, batch.attention_mask_BT)
    return scores


def _batch(prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int) -> ReplyBatch:
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        if not len(prompt) or not len(reply):
            raise ModelError(f"row {row} of the batch has an empty {'reply' if len(prompt) else 'prompt'}")
    return pad_replies(prompts, replies, pad_id)


def _logits_at(model: Any, batch: ReplyBatch, positions_BT: Tensor) -> Tensor:
    """Logits (B, T, V) at given positions of each row, soft caps and scales of the architecture included."""
    whole = plain_model(getattr(model, "module", model))
    inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT, "use_cache": False}
    if "logits_to_keep" in inspect.signature(whole.forward).parameters:
        logits: Tensor = model(**inputs, logits_to_keep=positions_BT).logits
        if logits.shape[:2] == positions_BT.shape:
            return logits
    # an architecture that cannot pick positions by row: all logits, then ours
    logits = model(**inputs).logits
    return logits.gather(1, positions_BT.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
