"""KL estimates by exact expectation, and rewards, scores and controllers by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from align.errors import NonFiniteError
from align.ppo.shaping import (
    AdaptiveKl,
    FixedKl,
    RunningMoments,
    clip_scores,
    full_kl_NT,
    kl_NT,
    last_token_N,
    penalise_missing_end,
    shape_rewards,
)

NAN = float("nan")
generator = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, generator=generator, dtype=torch.float64)
LOG_REFERENCE = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(0)
MASK = torch.tensor([[True, True, False], [True, True, True]])

numbers = st.floats(-50, 50)


def expected(estimator: str) -> Tensor:
    """The mean of an estimate over everything that the policy may sample."""
    log_policy = LOGITS.log_softmax(0)
    return (log_policy.exp() * kl_NT(log_policy, LOG_REFERENCE, estimator)).sum()


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    exact = full_kl_NT(LOGITS.log_softmax(0), LOG_REFERENCE).item()
    assert float(expected("k1")) == pytest.approx(exact, abs=1e-12)
    assert float(expected("k3")) == pytest.approx(exact, abs=1e-12)
    assert abs(float(expected("k2")) - exact) > 0.01
    assert float(expected("abs")) > exact + 0.01


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9))
def test_k3_is_never_negative(pairs: list[tuple[float, float]]) -> None:
    policy, reference = torch.tensor(pairs, dtype=torch.float64).T
    assert bool((kl_NT(policy, reference, "k3") >= 0).all())
    assert bool((kl_NT(policy, policy, "k3") == 0).all())


def gradient(value: Callable[[Tensor], Tensor]) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    value(logits.log_softmax(0)).backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize(
    ("estimator", "divergence"),
    [
        ("k1", lambda log_policy: 0 * log_policy.sum()),
        ("k2", lambda log_policy: full_kl_NT(log_policy, LOG_REFERENCE)),
        ("k3", lambda log_policy: full_kl_NT(LOG_REFERENCE, log_policy)),
    ],
    ids=["k1: nothing", "k2: the reverse KL", "k3: the forward KL"],
)
def test_what_an_estimate_descends_as_a_loss(estimator: str, divergence: Callable[[Tensor], Tensor]) -> None:
    """Expected over samples of the policy itself, which carry no gradient."""
    sampled = LOGITS.softmax(0)
    got = gradient(lambda log_policy: (sampled * kl_NT(log_policy, LOG_REFERENCE, estimator)).sum())
    torch.testing.assert_close(got, gradient(divergence), rtol=1e-12, atol=1e-12)


def test_an_impossible_token_adds_nothing_to_the_full_kl() -> None:
    """KL([½, ½, 0] || [¼, ¼, ½]) = log 2, and the gradient is finite."""
    logits = torch.tensor([0.0, 0.0, -math.inf], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64).log()
    kl = full_kl_NT(logits.log_softmax(0), reference)
    assert kl.item() == pytest.approx(math.log(2), rel=1e-12)
    kl.backward()
    assert bool(logits.grad.isfinite().all())


def test_kl_at_padding_is_not_read() -> None:
    policy = torch.tensor([[-1.0, -2.0, NAN], [-1.0, -3.0, -2.0]], requires_grad=True)
    reference = torch.tensor([[-2.0, -2.0, math.inf], [-1.0, -1.0, -1.0]])
    for estimator in ("k1", "k2", "k3", "abs"):
        policy.grad = None
        kl = kl_NT(policy, reference, estimator, MASK)
        assert kl[0, 2].item() == 0.0
        kl.sum().backward()
        assert bool(policy.grad.isfinite().all())
        assert float(policy.grad[0, 2]) == 0.0


def test_a_wrong_estimator_is_named() -> None:
    with pytest.raises(ValueError, match="k4"):
        kl_NT(LOGITS, LOGITS, "k4")  # type: ignore[arg-type]


def test_the_score_lands_on_the_last_real_token() -> None:
    """Row 0: 2 tokens of KL 1 and 2 at 0.1, score 5. Row 1: 3 tokens, score -1."""
    kl = torch.tensor([[1.0, 2.0, NAN], [0.0, -1.0, 4.0]], dtype=torch.float64)
    rewards = shape_rewards(torch.tensor([5.0, -1.0], dtype=torch.float64), kl, MASK, 0.1)
    expected = torch.tensor([[-0.1, 4.8, 0.0], [0.0, 0.1, -1.4]], dtype=torch.float64)
    torch.testing.assert_close(rewards, expected, rtol=1e-12, atol=1e-12)


def test_the_last_real_token_with_holes_before_it() -> None:
    mask = torch.tensor([[True, False, True, False], [False, True, False, False]])
    assert last_token_N(mask).tolist() == [2, 1]


def test_a_reply_without_a_token_is_refused() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    with pytest.raises(ValueError, match=r"\[1\]"):
        shape_rewards(torch.zeros(2), torch.zeros(2, 2), mask, 0.1)


def test_a_missing_end_costs() -> None:
    scores, ended = torch.tensor([3.0, -2.0]), torch.tensor([True, False])
    assert penalise_missing_end(scores, ended, 1.0, "subtract").tolist() == [3.0, -3.0]
    assert penalise_missing_end(scores, ended, 1.0, "replace").tolist() == [3.0, -1.0]
    with pytest.raises(ValueError, match="ignore"):
        penalise_missing_end(scores, ended, 1.0, "ignore")  # type: ignore[arg-type]


def test_scores_are_clipped_on_both_sides() -> None:
    scores = torch.tensor([-7.0, 1.0, 9.0])
    assert clip_scores(scores, 5.0).tolist() == [-5.0, 1.0, 5.0]
    assert clip_scores(scores, None).tolist() == scores.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(numbers, max_size=6), min_size=1, max_size=6), st.sampled_from([0.0, 1e6]))
def test_moments_do_not_depend_on_the_batches(batches: list[list[float]], offset: float) -> None:
    """Far from 0 too, where a sum of squares would lose the variance."""
    scores = [score + offset for batch in batches for score in batch]
    moments = RunningMoments()
    for batch in batches:
        moments = moments.updated(torch.tensor(batch, dtype=torch.float64) + offset)
    assert moments.count == len(scores)
    if scores:
        assert moments.mean == pytest.approx(np.mean(scores), rel=1e-12, abs=1e-12)
        assert moments.var == pytest.approx(np.var(scores), rel=1e-9, abs=1e-7)
    if len(scores) > 1:
        assert moments.std == pytest.approx(np.std(scores, ddof=1), rel=1e-9, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=9))
def test_moments_come_back_from_json_to_the_bit(scores: list[float]) -> None:
    moments = RunningMoments().updated(torch.tensor(scores, dtype=torch.float64) / 3)
    assert RunningMoments(**json.loads(json.dumps(moments.plain()))) == moments


def test_scores_are_normalised_by_what_was_seen() -> None:
    """1, 2, 3: mean 2, standard deviation 1 over n - 1; then 0, 4 in those units."""
    moments = RunningMoments().updated(torch.tensor([1.0, 3.0, 2.0]))
    more = RunningMoments().updated(torch.tensor([0.0, 4.0]))
    assert moments.normalised(torch.tensor([0.0, 4.0]), shift=True).tolist() == [-2.0, 2.0]
    assert moments.normalised(torch.tensor([0.0, 4.0]), shift=False).tolist() == [0.0, 4.0]
    assert more.normalised(torch.tensor([2.0]), shift=False).tolist() == pytest.approx([2 / math.sqrt(8)])


@pytest.mark.parametrize("scores", [[], [4.0], [4.0, 4.0, 4.0]])
def test_scores_that_are_all_alike_have_no_unit(scores: list[float]) -> None:
    moments = RunningMoments().updated(torch.tensor(scores))
    assert moments.normalised(torch.tensor([5.0]), shift=False).tolist() == [5.0]
    assert moments.normalised(torch.tensor([5.0]), shift=True).tolist() == [1.0 if scores else 5.0]


def test_a_score_that_is_no_number_does_not_enter_the_moments() -> None:
    with pytest.raises(NonFiniteError, match=r"score 1 of 2 .* nan"):
        RunningMoments().updated(torch.tensor([1.0, NAN]))


def test_the_coefficient_follows_the_kl() -> None:
    """Target 6, horizon 100, 50 episodes: error ±0.2 at most, so that one update moves it by 10 % at most."""
    state = AdaptiveKl(0.5, target=6.0, horizon=100.0)
    assert state.updated(6.0, 50) == state
    assert state.updated(6.6, 50).coef == pytest.approx(0.5 * (1 + 0.1 * 0.5))
    assert state.updated(60.0, 50).coef == pytest.approx(0.5 * 1.1)
    assert state.updated(-3.0, 50).coef == pytest.approx(0.5 * 0.9)
    assert state.updated(60.0, 50).target == 6.0
    with pytest.raises(NonFiniteError, match="nan"):
        state.updated(NAN, 50)


def test_a_fixed_coefficient_stays() -> None:
    assert FixedKl(0.1).updated(1e9, 64) == FixedKl(0.1)
