"""How far a policy has moved from its reference, in nats, estimated from the policy's own replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError, NonFiniteError
from align.evaluation.statistics import Clusters, finite, mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from align.types import Result


def drift(
    label: str, policy_logps: ArrayLike, reference_logps: ArrayLike, clusters: Clusters = None
) -> list[Result]:
    """KL(policy || reference) per reply: ``<label>/kl`` and ``<label>/kl_k3``.

    Both take the summed log-probabilities (B,) in nats that the policy and the reference give to replies
    drawn from the policy, all at the temperature that they were drawn at, with no truncation (drawn
    otherwise, they measure something else). With d = log policy - log reference (Schulman 2020,
    "Approximating KL divergence"):

    * ``kl`` is the mean of d (k1): unbiased at any distance, and the number to read.
    * ``kl_k3`` is the mean of exp(-d) - 1 + d: unbiased too, never negative, and far less noisy while the
      two policies are close (well under 1 nat). Further out its correction, whose mean is 0, rests on
      replies that the policy hardly ever draws, so that it reads about 1 nat low. Large disagreement with
      ``kl`` while both are small points at log-probabilities that were not taken alike.

    Raises:
        DataError: no replies, or not as many log-probabilities of one as of the other.
        NonFiniteError: one is NaN or infinite, or the reference is less sure by a factor beyond float64.
    """
    policy = finite(policy_logps, f"{label}/kl (policy log-probabilities)")
    reference = finite(reference_logps, f"{label}/kl (reference log-probabilities)")
    if len(policy) != len(reference):
        raise DataError(f"{label}/kl: {len(policy)} replies of the policy, {len(reference)} of the reference")
    d = policy - reference
    if d.min() < -700:
        raise NonFiniteError(
            f"{label}/kl: reply {int(d.argmin())} (counted from 0) is exp({-d.min():.0f}) times likelier "
            f"under the reference than under the policy that drew it: these log-probabilities do not belong "
            f"to the same replies"
        )
    return [mean(f"{label}/kl", d, clusters), mean(f"{label}/kl_k3", np.expm1(-d) + d, clusters)]
