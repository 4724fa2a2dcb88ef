"""KL estimates against a divergence that can be summed exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError, NonFiniteError
from align.evaluation.drift import drift


def test_two_replies_by_hand() -> None:
    """d = 1 and -1/2: k1 = 1/4; k3 = (e^-1 - 1 + 1 + e^1/2 - 1 - 1/2)/2."""
    kl, k3 = drift("dpo", [-3.0, -4.0], [-4.0, -3.5])
    assert (kl.metric, k3.metric) == ("dpo/kl", "dpo/kl_k3")
    assert kl.value == pytest.approx(0.25, rel=1e-12)
    assert k3.value == pytest.approx((math.exp(-1) + math.exp(0.5) - 1.5) / 2, rel=1e-12)


def test_a_policy_that_is_its_reference_has_not_moved() -> None:
    logps = -np.random.default_rng(0).exponential(20, size=40)
    for result in drift("dpo", logps, logps):
        assert (result.value, result.ci_low, result.ci_high) == (0.0, 0.0, 0.0)


def test_both_estimates_are_unbiased_and_k3_is_quieter_nearby() -> None:
    """Expectations summed over a 6-word vocabulary, policy 0.1 nats from its reference."""
    logits = np.array([0.3, -0.2, 0.1, 0.5, -0.4, 0.0])
    policy = np.exp(logits + 0.2 * np.array([1, -1, 2, -2, 1, 0]))
    reference = np.exp(logits)
    policy, reference = policy / policy.sum(), reference / reference.sum()
    exact = float((policy * np.log(policy / reference)).sum())
    d = np.log(policy / reference)
    terms = {"kl": d, "kl_k3": np.expm1(-d) + d}
    for term in terms.values():
        assert float((policy * term).sum()) == pytest.approx(exact, rel=1e-12)

    words = np.random.default_rng(0).choice(6, p=policy, size=4_000)
    kl, k3 = drift("p", np.log(policy)[words], np.log(reference)[words])
    for result in (kl, k3):
        assert result.ci_low is not None
        assert result.ci_high is not None
        assert result.ci_low < exact < result.ci_high
    assert (k3.ci_high or 0) - (k3.ci_low or 0) < 0.5 * ((kl.ci_high or 0) - (kl.ci_low or 0))


def test_log_probabilities_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"reply 1 .*likelier"):
        drift("dpo", [-10.0, -2000.0], [-11.0, -10.0])
    with pytest.raises(NonFiniteError, match="reference log-probabilities"):
        drift("dpo", [-1.0], [-math.inf])
    with pytest.raises(DataError, match="2 replies of the policy, 1"):
        drift("dpo", [-1.0, -2.0], [-1.0])
