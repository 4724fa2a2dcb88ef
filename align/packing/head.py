"""From hidden states to log-probabilities of given tokens, a chunk at a time.

The (tokens x vocabulary) matrix of logits is the largest thing in a preference batch: 4,000 reply tokens of
a 150,000-word vocabulary are 2.4 GB in float32, and as much again for their gradient. No more than ``CHUNK``
of its numbers exist at once. Legend: R reply tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from align.models.logprobs import token_entropy, token_logps

Head = Callable[[Tensor], Tensor]
"""Hidden states (R, H) -> logits (R, V)."""

CHUNK = {"cpu": 2**22, "cuda": 2**27}
"""Logits that exist at once, by the type of device: 16 MB in float32, which a processor's cache can hold; or
512 MB, so that a device's products are large enough for it, and few."""


def head_of(model: Any) -> Head | None:
    """A causal model's output head with the caps and factors that its config names; None without a head.

    Architectures scale or cap their logits in ways of their own, so the result is to be compared with the
    model's own logits before it is trusted (``probe``).
    """
    project, config = model.get_output_embeddings(), model.config
    if project is None:
        return None
    factor = getattr(config, "logit_scale", None)  # Cohere
    divisor = getattr(config, "logits_scaling", None)  # Granite
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2

    def head(hidden_RH: Tensor) -> Tensor:
        # past the module's hooks: ranks that share the weights (ZeRO 3) would have to call them equally
        # often, and each has as many chunks as its replies have tokens
        logits_RV: Tensor = project.forward(hidden_RH)
        if factor is not None:
            logits_RV = logits_RV * factor
        if divisor is not None:
            logits_RV = logits_RV / divisor
        return logits_RV if softcap is None else torch.tanh(logits_RV / softcap) * softcap

    return head


def chunked_logps(
    head: Head, hidden_RH: Tensor, labels_R: Tensor, vocabulary: int, temperature: float = 1.0
) -> Tensor:
    """Log-probabilities (R,), in nats and float32 at least, of each label under the head's distribution.

    More than one chunk is recomputed in the backward pass, one at a time: one product with the head more.
    """
    return _chunked(lambda hidden, labels: token_logps(head(hidden), labels, temperature))(
        hidden_RH, labels_R, _rows(hidden_RH, vocabulary)
    )


def chunked_logps_and_entropies(
    head: Head, hidden_RH: Tensor, labels_R: Tensor, vocabulary: int, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The same, and the entropies (R,) of those distributions, from one product with the head."""

    def both(hidden: Tensor, labels: Tensor) -> Tensor:
        logits = head(hidden).float()
        return torch.stack(
            (token_logps(logits, labels, temperature), token_entropy(logits / temperature)), -1
        )

    logps_R, entropies_R = _chunked(both)(hidden_RH, labels_R, _rows(hidden_RH, vocabulary)).unbind(-1)
    return logps_R, entropies_R


def _rows(hidden_RH: Tensor, vocabulary: int) -> int:
    """Of one chunk."""
    return max(1, CHUNK.get(hidden_RH.device.type, CHUNK["cuda"]) // vocabulary)


def _chunked(read: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The same function a chunk of rows at a time, recomputed in the backward pass."""

    def run(hidden_RH: Tensor, labels_R: Tensor, size: int) -> Tensor:
        if len(labels_R) <= size:
            return read(hidden_RH, labels_R)
        parts = zip(torch.split(hidden_RH, size), torch.split(labels_R, size), strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([read(hidden, labels) for hidden, labels in parts])
        found: list[Any] = [
            checkpoint(read, hidden, labels, use_reentrant=False, preserve_rng_state=False)
            for hidden, labels in parts
        ]
        return torch.cat(found)

    return run
