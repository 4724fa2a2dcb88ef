"""What the update descends: the clipped policy objective, the critic's loss, and the mean over a batch.

Legend: N replies, T tokens. Rows are aligned left, ``mask_NT`` (bool) is True at reply tokens; what stands at
other positions is never read, and every (N, T) result is 0 (False) there. Log-probabilities are in nats.

A loss is the quotient of ``total`` and ``weight``: the totals of micro-batches add up, and the weight is
that of the whole batch, so that no cut into micro-batches changes the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from align.ppo.shaping import kl_NT, masked

Mean = Literal["token", "sequence", "fixed_length"]
Ratio = Literal["token", "reply", "reply_mean"]


@dataclass(frozen=True)
class PolicyTerms:
    """``losses_NT`` to be minimised, and what the metrics say of the step, detached."""

    losses_NT: Tensor
    ratio_NT: Tensor
    """π_new / π_old of each token, or of its whole reply where ``ratio`` is not "token"; 0 at padding."""
    clipped_NT: Tensor
    """bool: where a bound of the ratio decided the loss."""
    kl_NT: Tensor
    """KL(old || new) by k3, exp(d) - 1 - d with d = log π_new - log π_old: unbiased and never negative."""


def policy_terms(
    logps_NT: Tensor,
    old_NT: Tensor,
    advantages_NT: Tensor,
    mask_NT: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    ratio: Ratio = "token",
    form: Literal["clip", "cispo"] = "clip",
    weights_NT: Tensor | None = None,
) -> PolicyTerms:
    """The policy's losses (N, T), with r = π_new / π_old bounded by 1 - clip_low and 1 + clip_high.

    ``clip`` is -min(r A, clip(r) A) (Schulman et al. 2017, eq. 7). ``cispo`` is -sg(clip(r)) A log π: the
    bound limits a token's weight, and its gradient goes on (MiniMax 2025, eq. 4 and 5, whose lower bound is
    switched off: clip_low = 1).

    Args:
        logps_NT: log π_new of the sampled tokens; the gradient goes here.
        old_NT: log π_old of the same tokens, before the first update on them.
        advantages_NT: constants.
        dual_clip: c > 1 + clip_high; where A < 0 the objective is c·A at least, so that one token whose ratio
            ran away cannot rule the step (Ye et al. 2020, eq. 5). For ``clip`` only.
        ratio: ``reply`` takes the product of a reply's token ratios for each of its tokens: the reply is one
            action (RLOO, Ahmadian et al. 2024, section 3); ``reply_mean`` their geometric mean (GSPO, Zheng
            et al. 2025, eq. 6 and 7).
        weights_NT: constants that multiply the losses (``importance_weights``).

    Raises:
        ValueError: a name that is none of these, or a ``dual_clip`` that would cut the clip range.
    """
    _check(ratio, form, clip_high, dual_clip)
    logps_NT, old_NT = masked(logps_NT, mask_NT), masked(old_NT, mask_NT).detach()
    advantages_NT = masked(advantages_NT, mask_NT).detach()
    log_ratio_NT = logps_NT - old_NT
    if ratio != "token":
        lengths_N1 = mask_NT.sum(-1, keepdim=True).clamp(min=1) if ratio == "reply_mean" else 1
        log_ratio_NT = (log_ratio_NT.sum(-1, keepdim=True) / lengths_N1).expand_as(log_ratio_NT)
    ratio_NT = log_ratio_NT.exp()
    bounded_NT = ratio_NT.clamp(1 - clip_low, 1 + clip_high)
    if form == "cispo":
        losses_NT = -bounded_NT.detach() * advantages_NT * logps_NT
        clipped_NT = bounded_NT != ratio_NT
    else:
        plain_NT, cut_NT = ratio_NT * advantages_NT, bounded_NT * advantages_NT
        objective_NT, clipped_NT = torch.minimum(plain_NT, cut_NT), cut_NT < plain_NT
        if dual_clip is not None:
            floor_NT = dual_clip * advantages_NT
            caught_NT = (advantages_NT < 0) & (floor_NT > objective_NT)
            objective_NT, clipped_NT = floor_NT.where(caught_NT, objective_NT), clipped_NT | caught_NT
        losses_NT = -objective_NT
    if weights_NT is not None:
        losses_NT = losses_NT * masked(weights_NT, mask_NT).detach()
    return PolicyTerms(
        masked(losses_NT, mask_NT),
        masked(ratio_NT.detach(), mask_NT),
        clipped_NT & mask_NT,
        kl_NT(old_NT, logps_NT.detach(), "k3"),
    )


def _check(ratio: str, form: str, clip_high: float, dual_clip: float | None) -> None:
    if ratio not in ("token", "reply", "reply_mean"):
        raise ValueError(f"no ratio named {ratio!r}: token, reply or reply_mean")
    if form not in ("clip", "cispo"):
        raise ValueError(f"no form named {form!r}: clip or cispo")
    if dual_clip is not None and (form != "clip" or dual_clip <= 1 + clip_high):
        raise ValueError(
            f"dual_clip={dual_clip} takes form='clip' and more than 1 + clip_high = {1 + clip_high:g}"
        )


def importance_weights(
    old_NT: Tensor, sampled_NT: Tensor, mask_NT: Tensor, low: float, high: float
) -> Tensor:
    """π_old / π_sampled (N, T), kept within [low, high], detached: truncated importance sampling.

    Corrects for a sampler whose probabilities differ from the trainer's (Yao et al. 2025). 0 at padding.
    """
    log_NT = masked(old_NT, mask_NT) - masked(sampled_NT, mask_NT)
    return masked(log_NT.detach().exp().clamp(low, high), mask_NT)


def value_losses_NT(
    values_NT: Tensor,
    old_NT: Tensor,
    returns_NT: Tensor,
    clip: float | None,
    mask_NT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The critic's losses (N, T), ½ max((V - R)², (V_old + clip(V - V_old, ±clip) - R)²), and where clipped.

    ``clip`` None is ½ (V - R)². The second result (bool) says where the clipped error is the larger one: no
    gradient flows there. With ``mask_NT`` both are 0 at other positions, whatever stands there.
    """
    if mask_NT is not None:
        values_NT, old_NT, returns_NT = (masked(part, mask_NT) for part in (values_NT, old_NT, returns_NT))
    errors_NT = (values_NT - returns_NT) ** 2
    if clip is None:
        return 0.5 * errors_NT, torch.zeros_like(errors_NT, dtype=torch.bool)
    moved_NT = values_NT - old_NT
    bounded_NT = old_NT + moved_NT.clamp(-clip, clip)
    cut_NT = (bounded_NT - returns_NT) ** 2
    # within the range both are one number but for rounding, and nothing is clipped
    clipped_NT = (cut_NT > errors_NT) & (moved_NT.abs() > clip)
    return 0.5 * torch.maximum(errors_NT, cut_NT), clipped_NT


def total(losses_NT: Tensor, mask_NT: Tensor, mean: Mean, length: float | None = None) -> Tensor:
    """The sum (a scalar) that ``weight`` of the whole batch divides: of tokens, or of replies' token means.

    ``length`` is that of ``weight``; it changes nothing here.
    """
    losses_NT = masked(losses_NT, mask_NT)
    if mean == "sequence":
        return (losses_NT.sum(-1) / mask_NT.sum(-1).clamp(min=1)).sum()
    if mean in ("token", "fixed_length"):
        return losses_NT.sum()
    raise ValueError(f"no mean named {mean!r}: token, sequence or fixed_length")


def weight(mask_NT: Tensor, mean: Mean, length: float | None = None) -> float:
    """What the totals of a batch with this mask are divided by.

    ``token``: its real tokens, each alike. ``sequence``: its replies (GRPO). ``fixed_length``: replies times
    ``length``, the same for short and long ones (Dr. GRPO, Liu et al. 2025; 1 takes the mean of the replies'
    sums). Rows without a real token are no replies.
    """
    if mean == "token":
        return float(mask_NT.sum())
    replies = float(mask_NT.any(-1).sum())
    if mean == "sequence":
        return replies
    if mean == "fixed_length":
        if length is None or length <= 0:
            raise ValueError(f"mean='fixed_length' takes a length in tokens above 0, got {length}")
        return replies * length
    raise ValueError(f"no mean named {mean!r}: token, sequence or fixed_length")


def explained_variance(values_NT: Tensor, returns_NT: Tensor, mask_NT: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the real tokens.

    1 is a perfect critic, 0 one that says a constant, below 0 one that is worse than that. Where the returns
    do not vary there is nothing to explain, and it is 0.
    """
    returns, values = returns_NT[mask_NT].detach().double(), values_NT[mask_NT].detach().double()
    variance = returns.var(correction=0) if len(returns) else torch.zeros(())
    if float(variance) == 0.0:
        return 0.0
    return 1 - float((returns - values).var(correction=0) / variance)
