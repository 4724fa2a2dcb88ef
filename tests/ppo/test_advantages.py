"""Advantage estimates against their definitions, and by exact expectation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from align.ppo.advantages import discounted_returns, gae, group_relative, leave_one_out, spread, whiten

NAN = float("nan")
Rows = list[list[tuple[float, float]]]

rows = st.lists(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=7), min_size=1, max_size=4
)
shares = st.sampled_from([0.0, 0.5, 0.95, 1.0])


def padded(replies: Rows, garbage: float = NAN) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and mask (N, T), with ``garbage`` behind each reply."""
    width = max(map(len, replies)) + 1
    table = torch.full((2, len(replies), width), garbage, dtype=torch.float64)
    mask = torch.zeros(len(replies), width, dtype=torch.bool)
    for row, reply in enumerate(replies):
        table[:, row, : len(reply)] = torch.tensor(reply, dtype=torch.float64).T
        mask[row, : len(reply)] = True
    return table[0], table[1], mask


@settings(max_examples=50, deadline=None)
@given(rows, shares, shares)
def test_gae_is_the_discounted_sum_of_errors(replies: Rows, gamma: float, lam: float) -> None:
    """Schulman et al. 2016, eq. 16, written out; the value behind the last token is 0."""
    estimate = gae(*padded(replies), gamma, lam)
    for row, reply in enumerate(replies):
        values = [value for _, value in reply] + [0.0]
        errors = [reward + gamma * values[t + 1] - values[t] for t, (reward, _) in enumerate(reply)]
        for t in range(len(reply)):
            advantage = sum((gamma * lam) ** ahead * error for ahead, error in enumerate(errors[t:]))
            assert float(estimate.advantages_NT[row, t]) == pytest.approx(advantage, rel=1e-12, abs=1e-12)
        assert bool((estimate.advantages_NT[row, len(reply) :] == 0).all())
        assert bool((estimate.returns_NT[row, len(reply) :] == 0).all())


@settings(max_examples=50, deadline=None)
@given(rows, shares)
def test_gae_at_either_end_of_lambda(replies: Rows, gamma: float) -> None:
    """λ = 1: return - V; λ = 0: the one-step error; returns = A + V always."""
    rewards, values, mask = padded(replies, garbage=0.0)
    returns = discounted_returns(rewards, mask, gamma)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    close = {"rtol": 1e-12, "atol": 1e-12}
    whole, step = (gae(rewards, values, mask, gamma, lam).advantages_NT for lam in (1.0, 0.0))
    torch.testing.assert_close(whole, returns - values, **close)
    torch.testing.assert_close(step, (rewards + gamma * following - values) * mask, **close)
    for lam in (0.0, 0.7, 1.0):
        estimate = gae(rewards, values, mask, gamma, lam)
        torch.testing.assert_close(estimate.returns_NT, estimate.advantages_NT + values, **close)


def test_gae_steps_over_what_is_masked_out_between_tokens() -> None:
    mask = torch.tensor([[True, False, False, True, True]])
    row = torch.tensor([[1.0, NAN, NAN, 2.0, -1.0]], dtype=torch.float64)
    whole = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    holed = gae(row, row / 2, mask, 0.9, 0.8)
    plain = gae(whole, whole / 2, torch.ones(1, 3, dtype=torch.bool), 0.9, 0.8)
    assert holed.advantages_NT[mask].tolist() == plain.advantages_NT[0].tolist()
    assert holed.advantages_NT[~mask].tolist() == [0.0, 0.0]


def test_gae_has_finite_gradients_and_keeps_the_dtype() -> None:
    rewards, values, mask = padded([[(1.0, 2.0)], [(3.0, 4.0), (5.0, 6.0)]])
    for dtype in (torch.float32, torch.float64):
        leaf = values.to(dtype).requires_grad_()
        estimate = gae(rewards.to(dtype), leaf, mask, 0.9, 0.8)
        assert estimate.advantages_NT.dtype == estimate.returns_NT.dtype == dtype
        estimate.advantages_NT.sum().backward()
        assert bool(leaf.grad.isfinite().all())
        assert bool((leaf.grad[~mask] == 0).all())


def test_whitened_values_have_unit_variance_over_real_tokens() -> None:
    """1, 3, 5 with garbage between: mean 3, sum of squares 8, so 4 over n - 1 and 8/3 over n."""
    values = torch.tensor([[1.0, 3.0], [5.0, NAN]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    unit, biased = 2 / math.sqrt(4), 2 / math.sqrt(8 / 3)
    for unbiased, size in ((True, unit), (False, biased)):
        shifted = whiten(values, mask, unbiased=unbiased)
        kept = whiten(values, mask, shift_mean=False, unbiased=unbiased)
        assert shifted.flatten().tolist() == pytest.approx([-size, 0.0, size, 0.0], rel=1e-8)
        assert kept.flatten().tolist() == pytest.approx([3 - size, 3.0, 3 + size, 0.0], rel=1e-8)


def test_whitening_needs_something_to_whiten() -> None:
    one = torch.tensor([[True, False]])
    with pytest.raises(ValueError, match="takes 2 real tokens at least, got 1"):
        whiten(torch.ones(1, 2), one)
    assert whiten(torch.ones(1, 2), one, unbiased=False).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="takes 1 real tokens at least, got 0"):
        whiten(torch.ones(1, 2), ~torch.ones(1, 2, dtype=torch.bool), unbiased=False)


SCORES = torch.tensor([1.0, 10.0, 2.0, 10.0, 6.0, 40.0], dtype=torch.float64)
"""Three replies to each of two prompts, reply i of prompt b in row 2i + b: 1, 2, 6 and 10, 10, 40."""


def test_leave_one_out_by_hand() -> None:
    """1 - (2 + 6)/2, 2 - (1 + 6)/2, 6 - (1 + 2)/2; 10 - 25, 10 - 25, 40 - 10."""
    assert leave_one_out(SCORES, 3).tolist() == [-3.0, -15.0, -1.5, -15.0, 4.5, 30.0]


def test_group_relative_by_hand() -> None:
    """Means 3 and 20; deviations √7 and √300 among a prompt's replies, all six 14.53... ."""
    centred = [-2.0, -10.0, -1.0, -10.0, 3.0, 20.0]
    assert group_relative(SCORES, 3, "none").tolist() == centred
    by_group = [c / (math.sqrt([7, 300][place % 2]) + 1e-4) for place, c in enumerate(centred)]
    assert group_relative(SCORES, 3, "group").tolist() == pytest.approx(by_group, rel=1e-12)
    mean = sum(SCORES.tolist()) / 6
    deviation = math.sqrt(sum((score - mean) ** 2 for score in SCORES.tolist()) / 5)
    by_batch = [c / (deviation + 1e-4) for c in centred]
    assert group_relative(SCORES, 3, "batch").tolist() == pytest.approx(by_batch, rel=1e-12)
    assert group_relative(torch.full((4,), 2.0), 2, "group").tolist() == [0.0] * 4


def test_replies_without_a_score_take_no_part() -> None:
    """Of prompt 0 the 6 is missing: 1 against 2. Of prompt 1 only 40 is there: nothing to hold it against."""
    scored = torch.tensor([True, False, True, False, False, True])
    scores = SCORES.where(scored, torch.full_like(SCORES, NAN))
    assert leave_one_out(scores, 3, scored).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert group_relative(scores, 3, "none", scored).tolist() == [-0.5, 0.0, 0.5, 0.0, 0.0, 0.0]
    size = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert group_relative(scores, 3, "group", scored).tolist() == pytest.approx([-size, 0, size, 0, 0, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_leave_one_out_is_dr_grpo_with_another_unit(scores: list[float]) -> None:
    """s_i - mean of the others = (s_i - mean) · R/(R - 1)."""
    scores_N, replies = torch.tensor(scores, dtype=torch.float64), len(scores)
    ours = leave_one_out(scores_N, replies) * (replies - 1) / replies
    torch.testing.assert_close(ours, group_relative(scores_N, replies, "none"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("replies", [2, 3])
def test_leave_one_out_has_the_policy_gradient_in_expectation(replies: int) -> None:
    """Over every way to draw the replies: E[mean of A ∇log π] = ∇E[r]; one prompt, four answers."""
    reward = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    logits = torch.tensor([0.1, 1.0, -0.4, 0.2], dtype=torch.float64, requires_grad=True)
    log_policy = logits.log_softmax(0)
    exact = torch.autograd.grad((log_policy.exp() * reward).sum(), logits, retain_graph=True)[0]
    value = torch.zeros((), dtype=torch.float64)
    for drawn in itertools.product(range(4), repeat=replies):
        answers = torch.tensor(drawn)
        chance = log_policy[answers].sum().exp().detach()
        value = value + chance * (leave_one_out(reward[answers], replies) * log_policy[answers]).mean()
    got = torch.autograd.grad(value, logits)[0]
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-12)


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="two replies a prompt or more, got 1"):
        leave_one_out(SCORES, 1)
    with pytest.raises(ValueError, match=r"shape \(6,\) are not 4 replies a prompt"):
        group_relative(SCORES, 4, "none")
    with pytest.raises(ValueError, match="prompt"):
        group_relative(SCORES, 3, "prompt")  # type: ignore[arg-type]


def test_a_number_a_reply_is_spread_over_its_tokens() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    assert spread(torch.tensor([2.0, -1.0]), mask).tolist() == [[2.0, 0.0], [-1.0, -1.0]]
