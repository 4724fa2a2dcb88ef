"""Log-probabilities and scores of replies, from padded batches. B replies, T tokens, V vocabulary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from align.errors import ModelError
from align.models.batch import ReplyBatch, pad_replies
from align.models.logprobs import token_entropy, token_logps
from align.models.save import plain_model
from align.models.virtual import led, virtual_of
from align.tensors import Outlook, TokenLogps

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
    return reply_outlook(model, prompts, replies, pad_id, temperature, None).logps


def reply_outlook(
    model: Any,
    prompts: Sequence[TokenIds],
    replies: Sequence[TokenIds],
    pad_id: int,
    temperature: float,
    value_head: Callable[[Tensor], Tensor] | None,
    *,
    entropies: bool = False,
) -> Outlook:
    """The same, with what a value head reads in the last hidden states, and entropies where asked for.

    Raises:
        ModelError: as ``reply_logps``; the head is not as wide as the states that this architecture shows.
    """
    batch = _batch(_whole(model), prompts, replies, pad_id).to(_device(model))
    places_BT, mask_BT = _places(batch)
    logits_BTV, hidden_BTH = _logits_at(model, batch, places_BT - 1, with_hidden=value_head is not None)
    logps_BT = token_logps(logits_BTV, batch.input_ids_BT.gather(-1, places_BT), temperature)
    logps = TokenLogps(logps_BT.masked_fill(~mask_BT, 0.0), mask_BT)
    values_BT = entropies_BT = None
    if value_head is not None and hidden_BTH is not None:
        with torch.autocast(hidden_BTH.device.type, enabled=False):
            try:
                values_BT = value_head(hidden_BTH.float()).masked_fill(~mask_BT, 0.0)
            except RuntimeError as error:
                raise ModelError(
                    f"the value head cannot read the hidden states of {type(plain_model(model)).__name__} "
                    f"({error}): give the critic a network of its own, critic.kind=separate"
                ) from error
    if entropies:
        entropies_BT = token_entropy(logits_BTV.float() / temperature).masked_fill(~mask_BT, 0.0)
    return Outlook(logps, values_BT, entropies_BT)


def reply_scores(
    scalar: nn.Module, prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int
) -> Tensor:
    """Scores (B,) of replies by ``ScalarModel.model``, read at each reply's last token.

    Raises:
        ModelError: an empty prompt or reply.
    """
    batch = _batch(_whole(getattr(scalar, "inner", scalar)), prompts, replies, pad_id).to(_device(scalar))
    scores: Tensor = scalar(batch.input_ids_BT, batch.attention_mask_BT)
    return scores


def reply_values(
    scalar: Any, prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int
) -> Tensor:
    """The head of ``ScalarModel.model`` (B, T) where each reply token is about to be chosen, 0 behind it.

    Raises:
        ModelError: an empty prompt or reply; an encoder, whose head reads a whole text.
    """
    batch = _batch(_whole(getattr(scalar, "inner", scalar)), prompts, replies, pad_id).to(_device(scalar))
    places_BT, mask_BT = _places(batch)
    values_BT: Tensor = scalar.at(batch.input_ids_BT, batch.attention_mask_BT, places_BT - 1)
    return values_BT.masked_fill(~mask_BT, 0.0)


def _places(batch: ReplyBatch) -> tuple[Tensor, Tensor]:
    """Where each reply's tokens lie in its row (B, T), and which of them are real."""
    lengths_B = batch.reply_mask_BT.sum(-1)
    steps_T = torch.arange(int(lengths_B.max()), device=lengths_B.device)
    mask_BT = steps_T < lengths_B.unsqueeze(-1)
    first_B = batch.reply_mask_BT.int().argmax(-1)
    # positions behind a short reply's end point at its last token, and are masked
    return torch.minimum(first_B.unsqueeze(-1) + steps_T, (first_B + lengths_B - 1).unsqueeze(-1)), mask_BT


def _whole(model: Any) -> Any:
    return plain_model(getattr(model, "module", model))


def _batch(whole: Any, prompts: Sequence[TokenIds], replies: Sequence[TokenIds], pad_id: int) -> ReplyBatch:
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        if not len(prompt) or not len(reply):
            raise ModelError(f"row {row} of the batch has an empty {'reply' if len(prompt) else 'prompt'}")
    return pad_replies(led(whole, prompts), replies, pad_id)


def _logits_at(
    model: Any, batch: ReplyBatch, positions_BT: Tensor, *, with_hidden: bool
) -> tuple[Tensor, Tensor | None]:
    """Logits (B, T, V), with the architecture's soft caps and scales, and last hidden states (B, T, H)."""
    whole = _whole(model)
    if virtual_of(whole) is not None:
        model = whole  # peft's own forward would put them before the text once more
    inputs: dict[str, Any] = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
    inputs["use_cache"] = False
    if with_hidden:
        inputs["output_hidden_states"] = True

    def picked(values: Tensor) -> Tensor:
        return values.gather(1, positions_BT.unsqueeze(-1).expand(-1, -1, values.shape[-1]))

    if "logits_to_keep" in inspect.signature(whole.forward).parameters:
        outputs = model(**inputs, logits_to_keep=positions_BT)
        logits: Tensor = outputs.logits
        if logits.shape[:2] != positions_BT.shape:
            # an architecture that cannot pick positions by row: all logits, then ours
            outputs = model(**inputs)
            logits = picked(outputs.logits)
    else:
        outputs = model(**inputs)
        logits = picked(outputs.logits)
    return logits, picked(outputs.hidden_states[-1]) if with_hidden else None


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
