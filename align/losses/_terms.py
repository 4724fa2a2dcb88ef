"""The pieces that several losses share, each once. Pure functions of tensors; torch loads when one is called.

B is pairs. Log-probabilities are in nats; half precision is widened to float32 before any arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from align.config import Range
from align.tensors import PairLosses, TokenLogps

if TYPE_CHECKING:
    from torch import Tensor

    from align.tensors import PairLogps

FlipRate = Annotated[float, Range(low=0, high=0.5, high_open=True)]
"""Probability that a label is wrong. At one half a label says nothing, so the bound itself is refused."""

MAX_EXPONENT = 80.0
"""exp(80) is 5.5e34: the largest round exponent whose products with a beta stay finite in float32."""


@dataclass(frozen=True)
class Sides:
    """One number a reply: ``chosen`` (B,) and ``rejected`` (B,)."""

    chosen: Tensor
    rejected: Tensor

    def margin(self) -> Tensor:
        """Chosen minus rejected (B,)."""
        return self.chosen - self.rejected

    def per_token(self, logps: PairLogps) -> Sides:
        """Each side divided by its reply's length in tokens."""
        return Sides(
            self.chosen / logps.chosen_lengths.clamp(min=1),
            self.rejected / logps.rejected_lengths.clamp(min=1),
        )


def widened(values: Tensor) -> Tensor:
    """Half precision as float32; anything wider as it is."""
    return values.float() if values.element_size() < 4 else values


def policy_logps(logps: PairLogps) -> Sides:
    """log π(y|x) of both replies."""
    return Sides(widened(logps.policy_chosen), widened(logps.policy_rejected))


def log_ratios(logps: PairLogps, reference_free: bool = False) -> Sides:
    """log π(y|x) / π_ref(y|x) of both replies; with ``reference_free`` π_ref is uniform, which drops out.

    Raises:
        ValueError: the loss needs the reference's log-probabilities and the caller computed none.
    """
    policy = policy_logps(logps)
    if reference_free:
        return policy
    if logps.reference_chosen is None or logps.reference_rejected is None:
        raise ValueError(
            "this loss declares needs_reference, and the reference's log-probabilities are missing"
        )
    return Sides(
        policy.chosen - widened(logps.reference_chosen), policy.rejected - widened(logps.reference_rejected)
    )


def with_rewards(losses_B: Tensor, beta: float, sides: Sides) -> PairLosses:
    """Losses with the implicit rewards β·sides, detached: they are for the metrics only."""
    return PairLosses(losses_B, beta * sides.chosen.detach(), beta * sides.rejected.detach())


def logged_ratios(logps: PairLogps) -> Sides:
    """Log-ratios for the metrics: against the reference where there is one, even if the loss ignores it."""
    return log_ratios(logps, reference_free=logps.reference_chosen is None)


def log_sigmoid(x: Tensor) -> Tensor:
    """log σ(x), finite for every finite x."""
    from torch.nn.functional import logsigmoid

    return logsigmoid(x)


def logistic(x: Tensor, flip_rate: float = 0.0) -> Tensor:
    """-(1-ε) log σ(x) - ε log σ(-x): the logistic loss under labels that are wrong with probability ε."""
    if flip_rate == 0:
        return -log_sigmoid(x)
    return -(1 - flip_rate) * log_sigmoid(x) - flip_rate * log_sigmoid(-x)


def power_score(log_u: Tensor, alpha: float) -> Tensor:
    """(1 - u^-α) / α, whose limit at α = 0 is log u; the exponent is capped, so it is finite everywhere."""
    if alpha == 0:
        return log_u
    return -(-alpha * log_u).clamp(max=MAX_EXPONENT).expm1() / alpha


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x <= 0, in the branch that cancels least (Mächler 2012, eq. 7).

    x is kept one rounding below 0, where both the value and its gradient would be infinite.
    """
    import torch

    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near_zero = x > -math.log(2)
    minus_one = torch.full_like(x, -1.0)
    # Each branch sees only arguments that it can stand: `where` passes a NaN gradient through otherwise.
    small = (-x.where(near_zero, minus_one).expm1()).log()
    large = (-x.where(~near_zero, minus_one).exp()).log1p()
    return small.where(near_zero, large)


def with_tokens(logps: PairLogps, policy: TokenLogps, reference: TokenLogps | None) -> PairLogps:
    """The same pairs with other token log-probabilities (2B, T), the sums taken anew."""
    chosen, rejected = policy.sums_B().chunk(2)
    out = replace(
        logps,
        policy_chosen=chosen,
        policy_rejected=rejected,
        policy_tokens=policy,
        reference_tokens=reference,
    )
    if reference is None:
        return out
    chosen, rejected = reference.sums_B().chunk(2)
    return replace(out, reference_chosen=chosen, reference_rejected=rejected)


def policy_tokens(logps: PairLogps) -> TokenLogps:
    """The policy's token log-probabilities (2B, T), widened.

    Raises:
        ValueError: the loss needs the per-token view and the caller kept only sums.
    """
    if logps.policy_tokens is None:
        raise ValueError("this loss declares needs_tokens, and the per-token log-probabilities are missing")
    return TokenLogps(widened(logps.policy_tokens.logps_BT), logps.policy_tokens.mask_BT)


def reference_tokens(logps: PairLogps) -> TokenLogps | None:
    """The reference's token log-probabilities (2B, T), widened; None for a loss without a reference."""
    if logps.reference_tokens is None:
        return None
    return TokenLogps(widened(logps.reference_tokens.logps_BT), logps.reference_tokens.mask_BT)
