"""Binary classifier optimisation: chosen replies against rejected ones, each reward on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from align.losses._terms import log_ratios, log_sigmoid, with_rewards
from align.settings import Positive

if TYPE_CHECKING:
    from align.tensors import PairLogps, PairLosses

__all__ = ["Bco"]


@dataclass(frozen=True)
class Bco:
    """BCO (Jung et al. 2024): -log σ(r_w - δ) - log σ(-(r_l - δ)), with r = β·log-ratio.

    The reward shift δ is the mean reward over both sides, without gradient. The paper keeps a running mean;
    ours is the micro-batch's (the running mean's first step), so that the loss stays a pure function. It
    couples the batch.
    """

    needs_reference: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    shift: Literal["batch_mean", "none"] = "batch_mean"
    """δ: the micro-batch's mean reward, or none."""

    @property
    def couples_batch(self) -> bool:
        """True where δ is taken over the micro-batch."""
        return self.shift == "batch_mean"

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps)
        chosen, rejected = self.beta * ratios.chosen, self.beta * ratios.rejected
        shift = (chosen + rejected).detach().mean() / 2 if self.shift == "batch_mean" else 0.0
        losses = -log_sigmoid(chosen - shift) - log_sigmoid(shift - rejected)
        return with_rewards(losses, self.beta, ratios)
