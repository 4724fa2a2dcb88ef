"""From rewards to advantages: per token with a critic, per reply without one.

Legend: N replies, T tokens, B prompts. Rows are aligned left, ``mask_NT`` (bool) is True at reply tokens;
what stands at other positions is never read, and every (N, T) result is 0 there. Of R replies a prompt,
reply i of prompt b is row i·B + b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from align.ppo.shaping import masked

WHITEN_EPS = 1e-8
"""Added to a variance before its root is divided by, as the published implementations do."""


@dataclass(frozen=True)
class Advantages:
    """``advantages_NT``, and ``returns_NT`` = advantages + values, what the critic is drawn to."""

    advantages_NT: Tensor
    returns_NT: Tensor


def gae(rewards_NT: Tensor, values_NT: Tensor, mask_NT: Tensor, gamma: float, lam: float) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16), over the real tokens of each row.

    δ_t = r_t + γ V_{t+1} - V_t, with V = 0 after the last real token; A_t = δ_t + γλ A_{t+1}. Positions
    between real tokens that are masked out (a tool's words) are stepped over.
    """
    rewards_NT, values_NT = masked(rewards_NT, mask_NT), masked(values_NT, mask_NT)
    following_N = torch.zeros_like(values_NT[:, 0])
    ahead_N = torch.zeros_like(rewards_NT[:, 0] + following_N)
    columns = []
    for reward_N, value_N, real_N in zip(
        *(part.unbind(-1)[::-1] for part in (rewards_NT, values_NT, mask_NT)), strict=True
    ):
        error_N = reward_N + gamma * following_N - value_N
        ahead_N = (error_N + gamma * lam * ahead_N).where(real_N, ahead_N)
        following_N = value_N.where(real_N, following_N)
        columns.append(ahead_N)
    advantages_NT = masked(torch.stack(columns[::-1], dim=-1), mask_NT)
    return Advantages(advantages_NT, advantages_NT + values_NT)


def discounted_returns(rewards_NT: Tensor, mask_NT: Tensor, gamma: float) -> Tensor:
    """Returns (N, T): the discounted sum of the rewards from each real token on."""
    nothing_NT = torch.zeros_like(rewards_NT)
    return gae(rewards_NT, nothing_NT, mask_NT, gamma, 1.0).returns_NT


def whiten(values_NT: Tensor, mask_NT: Tensor, *, shift_mean: bool = True, unbiased: bool = True) -> Tensor:
    """Values (N, T) scaled to variance 1 over all real tokens together.

    Args:
        shift_mean: to mean 0, too; otherwise the mean stays what it was.
        unbiased: variance over n - 1 (trl, OpenAI's successors); False over n (OpenRLHF, Huang et al. 2024).

    Raises:
        ValueError: no real token, or a single one and ``unbiased``.
    """
    count = int(mask_NT.sum())
    if count < 1 + unbiased:
        raise ValueError(f"whitening takes {1 + unbiased} real tokens at least, got {count}")
    values_NT = masked(values_NT, mask_NT)
    mean = values_NT.sum() / count
    centred_NT = masked(values_NT - mean, mask_NT)
    variance = (centred_NT**2).sum() / (count - unbiased)
    scaled_NT = centred_NT * (variance + WHITEN_EPS).rsqrt()
    return scaled_NT if shift_mean else masked(scaled_NT + mean, mask_NT)


def leave_one_out(scores_N: Tensor, replies: int, scored_N: Tensor | None = None) -> Tensor:
    """Score (N,) less the mean of the prompt's other replies: RLOO (Ahmadian et al. 2024, section 3.3).

    Replies where ``scored_N`` (bool) is False have no score (a judge abstained): no baseline counts them and
    their advantage is 0, as is that of a reply that is the only one scored.
    """
    group = _by_prompt(scores_N, replies, scored_N)
    others_RB = (group.scores_RB.sum(0) - group.scores_RB) / (group.counts_B - 1).clamp(min=1)
    return group.advantages(group.scores_RB - others_RB)


def group_relative(
    scores_N: Tensor,
    replies: int,
    scale: Literal["group", "batch", "none"],
    scored_N: Tensor | None = None,
    *,
    eps: float = 1e-4,
) -> Tensor:
    """Score (N,) less the mean of the prompt's replies, over a standard deviation (n - 1) plus ``eps``.

    ``group`` takes the deviation among the prompt's replies (GRPO, Shao et al. 2024, section 4.1.2),
    ``batch`` that of all scores, ``none`` divides by nothing (Dr. GRPO, Liu et al. 2025, section 3.2).
    ``scored_N`` is as for ``leave_one_out``.
    """
    group = _by_prompt(scores_N, replies, scored_N)
    means_B = group.scores_RB.sum(0) / group.counts_B.clamp(min=1)
    centred_RB = masked(group.scores_RB - means_B, group.scored_RB)
    if scale == "group":
        variances_B = (centred_RB**2).sum(0) / (group.counts_B - 1).clamp(min=1)
        return group.advantages(centred_RB / (variances_B.sqrt() + eps))
    if scale == "batch":
        scored = group.scores_RB[group.scored_RB]
        deviation = scored.std() if len(scored) > 1 else torch.zeros_like(means_B[0])
        return group.advantages(centred_RB / (deviation + eps))
    if scale == "none":
        return group.advantages(centred_RB)
    raise ValueError(f"no scale named {scale!r}: group, batch or none")


def spread(values_N: Tensor, mask_NT: Tensor) -> Tensor:
    """Each row's number at each of its real tokens (N, T), 0 elsewhere."""
    return masked(values_N.unsqueeze(-1).expand(mask_NT.shape), mask_NT)


@dataclass(frozen=True)
class _Groups:
    """Scores of R replies to each of B prompts, 0 where there is none."""

    scores_RB: Tensor
    scored_RB: Tensor
    counts_B: Tensor

    def advantages(self, values_RB: Tensor) -> Tensor:
        """The values (N,) of scored replies that have another to be held against, 0 elsewhere."""
        return masked(values_RB, self.scored_RB & (self.counts_B > 1)).flatten()


def _by_prompt(scores_N: Tensor, replies: int, scored_N: Tensor | None) -> _Groups:
    """The scores by prompt.

    Raises:
        ValueError: fewer than two replies a prompt, or a number of scores that they do not divide.
    """
    if replies < 2:
        raise ValueError(f"a group's baseline takes two replies a prompt or more, got {replies}")
    if scores_N.ndim != 1 or len(scores_N) % replies:
        raise ValueError(f"scores of shape {tuple(scores_N.shape)} are not {replies} replies a prompt")
    if scored_N is None:
        scored_N = torch.ones_like(scores_N, dtype=torch.bool)
    scored_RB = scored_N.view(replies, -1)
    return _Groups(masked(scores_N.view(replies, -1), scored_RB), scored_RB, scored_RB.sum(0))
