"""Groups of made-up tokens, and what a plain pass over one text at a time says of them, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from align.packing.layout import ReplyGroup

VOCABULARY = 300


def made_up(*shapes: tuple[int, tuple[int, ...]], seed: int = 3) -> list[ReplyGroup]:
    """Groups with prompts and replies of these lengths."""
    rng = np.random.default_rng(seed)

    def draw(length: int) -> Any:
        return rng.integers(VOCABULARY, size=length, dtype=np.int32)

    return [ReplyGroup(draw(prompt), tuple(map(draw, replies))) for prompt, replies in shapes]


PAIRS = made_up((11, (9, 13)), (3, (1, 7)), (17, (20, 2)), (1, (5, 4)))
"""Four pairs: a prompt of one token, a reply of one, texts longer than the tiny sliding windows of 8."""


def alone(model: Any, groups: list[ReplyGroup], temperature: float = 1.0) -> list[torch.Tensor]:
    """Log-probabilities of each reply's tokens, from all logits of its unpadded text; first replies first."""
    found = []
    for order in range(len(groups[0].replies)):
        for group in groups:
            ids = torch.tensor([[*group.prompt_ids, *group.replies[order]]], device=model.device)
            logps = (model(input_ids=ids, use_cache=False).logits / temperature).log_softmax(-1)
            own = logps[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
            found.append(own[len(group.prompt_ids) - 1 :])
    return found


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    """The gradient of all trained parameters, as one vector."""
    model.zero_grad()
    loss.backward()
    return torch.cat(
        [
            torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten()
            for one in model.parameters()
            if one.requires_grad
        ]
    )
