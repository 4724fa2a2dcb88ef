"""How many floating-point operations a model's training needs, counted from its shape.

Matrix products count, a multiplication and an addition as two; norms, activations and the softmax are a few
percent beside them. The backward pass takes two products for each one of the forward pass: the gradient of
its input, and of its weight where that is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from align.models.save import plain_model


@dataclass(frozen=True)
class PassFlops:
    """Operations of a forward and backward pass, by what they grow with."""

    token: float
    """Each token that goes through the blocks."""
    head: float
    """Each position that the output head reads."""
    attended: float
    """Each key that a query looks at, over all layers and heads."""

    def of(self, tokens: int, read: int, attended: int) -> float:
        """``tokens`` through the blocks, ``read`` of them by the head, ``attended`` queries times keys."""
        return self.token * tokens + self.head * read + self.attended * attended


def pass_flops(model: nn.Module) -> PassFlops:
    """The cost of a transformers model, or of a scalar model's ``model``; under LoRA that of both parts.

    Attention is taken as causal and full (no window); all experts of a mixture count. Architectures that do
    not say how wide their attention is have none.
    """
    whole: Any = plain_model(getattr(model, "inner", model))
    head = getattr(whole, "score", None)
    if not isinstance(head, nn.Module):
        head = whole.get_output_embeddings()
    in_head = set() if head is None else set(head.modules())
    token = at_head = 0.0
    for module in whole.modules():
        cost = 0.0 if isinstance(module, nn.Embedding) else _weights_cost(module)
        if module in in_head:
            at_head += cost
        else:
            token += cost
    config = whole.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", 0)
    heads = getattr(config, "num_attention_heads", 0)
    width = heads * (getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0))
    # a score and a value for each key: 2 x 2 x width forward, twice that backward
    return PassFlops(token, at_head, 12.0 * layers * width)


def _weights_cost(module: nn.Module) -> float:
    """Of the module's own matrices, a token."""
    matrices = [weight for weight in module.parameters(recurse=False) if weight.ndim >= 2]
    return float(sum(weight.numel() * (6 if weight.requires_grad else 4) for weight in matrices))
