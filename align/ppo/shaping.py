"""From scores to rewards: the KL estimates, what is done to a score, and what is kept between iterations.

Legend: N replies, T tokens, V vocabulary. Rows are aligned left, ``mask_NT`` (bool) is True at reply tokens;
what stands at other positions is never read. Log-probabilities and KL are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from align.errors import NonFiniteError

KlEstimator = Literal["k1", "k2", "k3", "abs"]

MAX_ERROR = 0.2
"""What the relative error of the KL is clipped to before it moves the coefficient (Ziegler et al. 2019)."""


def masked(values_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """The values at real tokens, 0 elsewhere; NaN that stood there reaches neither values nor gradients."""
    return values_NT.where(mask_NT, torch.zeros_like(values_NT))


def kl_NT(
    policy_NT: Tensor, reference_NT: Tensor, estimator: KlEstimator, mask_NT: Tensor | None = None
) -> Tensor:
    """Estimates (N, T) of KL(policy || reference) from tokens that the policy sampled (Schulman 2020).

    With u = log policy - log reference: ``k1`` is u (unbiased), ``k2`` u²/2 (biased, low variance), ``k3``
    exp(-u) - 1 + u (unbiased, never negative), ``abs`` |u| (an upper bound on k1; trl up to 0.11 had it).
    Differentiable in ``policy_NT``. As a loss, the expected gradient of k1 is zero, that of k2 the reverse
    KL's, that of k3 the forward KL's.

    Args:
        policy_NT: log-probabilities of the sampled tokens.
        reference_NT: those of the reference, of the same tokens.
        mask_NT: where given, the estimate is 0 at other positions, and whatever stands there is not read.
    """
    if mask_NT is not None:
        policy_NT, reference_NT = masked(policy_NT, mask_NT), masked(reference_NT, mask_NT)
    u_NT = policy_NT - reference_NT
    if estimator == "k1":
        return u_NT
    if estimator == "k2":
        return 0.5 * u_NT**2
    if estimator == "k3":
        return (-u_NT).expm1() + u_NT
    if estimator == "abs":
        return u_NT.abs()
    raise ValueError(f"no KL estimator named {estimator!r}: k1, k2, k3 or abs")


def full_kl_NT(policy_NTV: Tensor, reference_NTV: Tensor) -> Tensor:
    """KL(policy || reference) (N, T) summed over the vocabulary, exact; takes log-probabilities (N, T, V).

    A token that the policy never takes (log-probability -inf) adds nothing.
    """
    possible_NTV = policy_NTV > -math.inf
    policy_NTV, reference_NTV = masked(policy_NTV, possible_NTV), masked(reference_NTV, possible_NTV)
    return (policy_NTV.exp() * (policy_NTV - reference_NTV)).sum(-1)


def last_token_N(mask_NT: Tensor) -> Tensor:
    """Position (N,) of each reply's last real token.

    Raises:
        ValueError: a row has none.
    """
    if not bool(mask_NT.any(-1).all()):
        rows = (~mask_NT.any(-1)).nonzero().flatten().tolist()
        raise ValueError(f"a reply has one token at least; rows without any (counted from 0): {rows}")
    places_T = torch.arange(mask_NT.shape[1], device=mask_NT.device)
    return (mask_NT * places_T).amax(-1)


def shape_rewards(scores_N: Tensor, kl_NT: Tensor, mask_NT: Tensor, coef: float) -> Tensor:
    """Rewards (N, T): -coef · KL at each token, the score added at the last (Ziegler et al. 2019, eq. 2).

    The last real token counts whether or not the reply ended by itself (Huang et al. 2024).
    """
    rewards_NT = -coef * masked(kl_NT, mask_NT)
    places_N1 = last_token_N(mask_NT).unsqueeze(-1)
    return rewards_NT.scatter_add(-1, places_N1, scores_N.to(rewards_NT.dtype).unsqueeze(-1))


def penalise_missing_end(
    scores_N: Tensor, ended_N: Tensor, penalty: float, how: Literal["subtract", "replace"]
) -> Tensor:
    """Scores (N,) after what a reply without an end of its own costs.

    ``subtract`` takes ``penalty`` off the score (trl); ``replace`` puts -penalty in the score's place, so
    that no good beginning pays for it (Ziegler et al. 2019; Huang et al. 2024, detail 4, with penalty 1).
    """
    if how not in ("subtract", "replace"):
        raise ValueError(f"no way {how!r} to penalise a missing end: subtract or replace")
    missing_N = scores_N - penalty if how == "subtract" else torch.full_like(scores_N, -penalty)
    return scores_N.where(ended_N, missing_N)


def clip_scores(scores_N: Tensor, limit: float | None) -> Tensor:
    """Scores (N,) kept within ±limit; None leaves them as they are."""
    return scores_N if limit is None else scores_N.clamp(-limit, limit)


@dataclass(frozen=True)
class RunningMoments:
    """Mean and spread of every score seen so far, merged batch by batch without drift.

    Merging follows Chan, Golub and LeVeque (1979): the result depends on which scores were seen, not on
    how they came in batches (to rounding). Plain numbers, so that ``RunningMoments(**plain())`` is exact
    through JSON.
    """

    count: int = 0
    """Scores seen."""
    mean: float = 0.0
    m2: float = 0.0
    """Sum of squared deviations from the mean."""

    @property
    def var(self) -> float:
        """Variance over ``count``; 0 before any score."""
        return self.m2 / self.count if self.count else 0.0

    @property
    def std(self) -> float:
        """Standard deviation over ``count - 1``; 0 with fewer than two scores."""
        return math.sqrt(self.m2 / (self.count - 1)) if self.count > 1 else 0.0

    def updated(self, scores_N: Tensor) -> RunningMoments:
        """With the scores of one more batch (none at all change nothing).

        Raises:
            NonFiniteError: a score is NaN or infinite: it would stay in the mean for ever.
        """
        scores_N = scores_N.detach().double().flatten().cpu()
        if not bool(scores_N.isfinite().all()):
            bad = int((~scores_N.isfinite()).nonzero()[0])
            raise NonFiniteError(f"score {bad} of {len(scores_N)} (counted from 0) is {float(scores_N[bad])}")
        added = len(scores_N)
        if added == 0:
            return self
        mean = float(scores_N.mean())
        count, delta = self.count + added, mean - self.mean
        spread = float(((scores_N - mean) ** 2).sum())
        return RunningMoments(
            count,
            self.mean + delta * added / count,
            self.m2 + spread + delta**2 * self.count * added / count,
        )

    def normalised(self, scores_N: Tensor, shift: bool) -> Tensor:
        """Scores (N,) over the standard deviation; ``shift`` takes the mean off first.

        Where the scores seen so far are all alike there is no unit to divide by, and they are not divided.
        """
        centred_N = scores_N - self.mean if shift else scores_N
        return centred_N / self.std if self.std > 0 else centred_N

    def plain(self) -> dict[str, float]:
        """The fields, for JSON."""
        return {"count": self.count, "mean": self.mean, "m2": self.m2}


@dataclass(frozen=True)
class FixedKl:
    """The KL coefficient as it was set, for good."""

    coef: float

    def updated(self, kl: float, episodes: int) -> FixedKl:
        """Itself, whatever the KL was."""
        return self


@dataclass(frozen=True)
class AdaptiveKl:
    """A KL coefficient that a proportional controller moves (Ziegler et al. 2019, section 2.2).

    After ``episodes`` replies at a KL, coef *= 1 + clip(KL / target - 1, ±0.2) · episodes / horizon.
    """

    coef: float
    target: float
    """KL to the reference to be held, nats a reply."""
    horizon: float
    """Episodes over which the coefficient can change by 20 %, about."""

    def updated(self, kl: float, episodes: int) -> AdaptiveKl:
        """After ``episodes`` replies whose mean KL was ``kl`` (nats a reply).

        Raises:
            NonFiniteError: the KL is NaN or infinite.
        """
        if not math.isfinite(kl):
            raise NonFiniteError(f"the KL to the reference is {kl}; the KL coefficient cannot follow it")
        error = min(max(kl / self.target - 1, -MAX_ERROR), MAX_ERROR)
        return replace(self, coef=self.coef * (1 + error * episodes / self.horizon))
