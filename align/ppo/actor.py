"""Policy and critic as an update sees them: one pass that says log-probabilities, values and entropies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from align.packing.forward import Forward, ValueHead
from align.packing.layout import ReplyGroup
from align.tensors import Outlook, Work


class LinearValue(nn.Module):
    """Hidden states (..., H) -> values (...). It starts at zero, as lm-human-preferences' does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Values in float32."""
        values: Tensor = self.linear(hidden).squeeze(-1)
        return values


class Together(nn.Module):
    """Policy and critic as one model, so that one optimiser and one checkpoint hold both."""

    def __init__(self, policy: nn.Module, critic: nn.Module | None) -> None:
        super().__init__()
        self.policy = policy
        self.critic = critic

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Passed on to both."""
        for part in (self.policy, self.critic):
            enable = getattr(part, "activation_checkpointing_enable", None)
            if callable(enable):
                enable(**options)


@dataclass(frozen=True)
class Actor:
    """A policy with its critic, if any."""

    model: nn.Module
    """Everything that is trained: the policy, and the value head or the critic's network."""
    forward: Forward
    temperature: float
    """Divides the policy's logits, as it does while sampling (Huang et al. 2024)."""
    value_head: ValueHead | None = None
    """A critic on the policy's trunk."""
    critic: Callable[[Sequence[ReplyGroup]], Tensor] | None = None
    """A critic of its own: groups -> values (N, T)."""
    critic_work: Callable[[Sequence[ReplyGroup]], Work] | None = None

    @property
    def has_critic(self) -> bool:
        """Whether there are values at all."""
        return self.value_head is not None or self.critic is not None

    def look(self, groups: Sequence[ReplyGroup], *, entropies: bool = False) -> Outlook:
        """Log-probabilities at the temperature; values where there is a critic."""
        outlook = self.forward.outlook(
            groups, self.temperature, value_head=self.value_head, entropies=entropies
        )
        if self.critic is None:
            return outlook
        return replace(outlook, values_BT=self.critic(groups))

    def values(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """What the critic says (N, T), and only that: a network of its own needs no pass of the policy."""
        if self.critic is not None:
            return self.critic(groups)
        values_BT = self.look(groups).values_BT
        assert values_BT is not None, "there is no critic"
        return values_BT

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        """What a pass forward and back over these groups takes, the critic's included."""
        policy = self.forward.work(groups)
        if self.critic_work is None:
            return policy
        # a token that both of them read is one token
        return replace(policy, flops=policy.flops + self.critic_work(groups).flops)


def head_width(whole: Any) -> int:
    """Width of the hidden states that a causal model's output head reads."""
    weight: torch.Tensor = whole.get_output_embeddings().weight
    return int(weight.shape[1])
