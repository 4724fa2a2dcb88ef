"""The update's losses by hand, their means over any cut into micro-batches, and the optimum they lead to."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from align.ppo.advantages import gae
from align.ppo.objective import (
    PolicyTerms,
    explained_variance,
    importance_weights,
    policy_terms,
    total,
    value_losses_NT,
    weight,
)
from align.ppo.shaping import kl_NT, shape_rewards

NAN, INF = float("nan"), float("inf")
MEANS = [("token", None), ("sequence", None), ("fixed_length", 7.0)]


def real(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor, dtype=torch.bool)


def at_ratio(moved: float, advantage: float, **settings: object) -> tuple[PolicyTerms, float]:
    """The terms of one token, and the gradient in its log-probability."""
    old = torch.tensor([[-1.3]], dtype=torch.float64)
    logps = (old + math.log(moved)).requires_grad_()
    advantages = torch.full_like(old, advantage)
    terms = policy_terms(logps, old, advantages, real(old), clip_low=0.2, clip_high=0.3, **settings)
    terms.losses_NT.sum().backward()
    return terms, float(logps.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.6, 0.0),  # above 1.3: no more to be gained
        (0.5, 2.0, -1.0, -1.0),  # below 0.8 with a good token: pulled back
        (0.9, -2.0, 1.8, 1.8),
        (0.5, -2.0, 1.6, 0.0),
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_the_clipped_objective(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    """Schulman et al. 2017, eq. 7: -min(rA, clip(r, 0.8, 1.3)A); the gradient of r in log π is r."""
    terms, got = at_ratio(ratio, advantage)
    assert terms.losses_NT.item() == pytest.approx(loss, rel=1e-12)
    assert got == pytest.approx(gradient, rel=1e-12)
    assert bool(terms.clipped_NT) == (gradient == 0.0)
    assert float(terms.ratio_NT) == pytest.approx(ratio, rel=1e-12)
    assert float(terms.kl_NT) == pytest.approx(ratio - 1 - math.log(ratio), rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [(4.0, -2.0, 6.0, 0.0), (2.0, -2.0, 4.0, 4.0), (4.0, 2.0, -2.6, 0.0), (0.5, -2.0, 1.6, 0.0)],
)
def test_the_second_bound_holds_bad_tokens_only(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    """Ye et al. 2020, eq. 5, c = 3: a loss of -cA at most where A < 0."""
    terms, got = at_ratio(ratio, advantage, dual_clip=3.0)
    assert terms.losses_NT.item() == pytest.approx(loss, rel=1e-12)
    assert got == pytest.approx(gradient, rel=1e-12)
    assert bool(terms.clipped_NT) == (gradient == 0.0)


@pytest.mark.parametrize(("ratio", "bounded"), [(0.5, 0.8), (1.1, 1.1), (4.0, 1.3)])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_bounds_the_weight_and_keeps_the_gradient(
    ratio: float, bounded: float, advantage: float
) -> None:
    """MiniMax 2025, eq. 4: the gradient is -clip(r)·A at every token."""
    terms, got = at_ratio(ratio, advantage, form="cispo")
    assert got == pytest.approx(-bounded * advantage, rel=1e-12)
    assert bool(terms.clipped_NT) == (ratio != bounded)


@pytest.mark.parametrize(("ratio", "divided"), [("reply_mean", True), ("reply", False)])
def test_the_ratio_of_a_whole_reply(ratio: str, divided: bool) -> None:
    """Steps of 0.1 and 0.3: e^0.4 as one action, e^0.2 as the geometric mean (Zheng et al. 2025, eq. 7).

    By reply, the gradient of r·A in each token's log-probability is r·A, over the length for the mean.
    """
    old = torch.tensor([[-1.0, -2.0, NAN], [-1.0, -1.0, -1.0]], dtype=torch.float64)
    steps = torch.tensor([[0.1, 0.3, INF], [0.0, -0.06, 0.0]], dtype=torch.float64)
    logps = (old + steps).requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    ones = torch.ones_like(old)
    terms = policy_terms(logps, old, ones, mask, clip_low=0.1, clip_high=0.5, ratio=ratio)
    a, b = (math.exp(0.2), math.exp(-0.02)) if divided else (math.exp(0.4), math.exp(-0.06))
    close = {"rtol": 1e-12, "atol": 0}
    expected = torch.tensor([[a, a, 0.0], [b, b, b]], dtype=torch.float64)
    torch.testing.assert_close(terms.ratio_NT, expected, **close)
    total(terms.losses_NT, mask, "sequence").backward()
    lengths = torch.tensor([[2.0], [3.0]], dtype=torch.float64) if divided else 1.0
    torch.testing.assert_close(logps.grad, -expected / lengths, **close)


@pytest.mark.parametrize("ratio", ["token", "reply", "reply_mean"])
@pytest.mark.parametrize("form", ["clip", "cispo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_minibatch(ratio: str, form: str, dtype: torch.dtype) -> None:
    """With the log-probabilities that it starts from: ratio exactly 1, KL 0, nothing clipped, gradient -A."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 5, generator=generator).to(dtype) * 30
    mask = torch.arange(5) < torch.tensor([[5], [2], [1], [4]])
    advantages = torch.randn(4, generator=generator).to(dtype).unsqueeze(-1).expand(4, 5)
    logps = old.clone().requires_grad_()
    terms = policy_terms(logps, old, advantages, mask, clip_low=0.2, clip_high=0.2, ratio=ratio, form=form)
    assert bool((terms.ratio_NT[mask] == 1).all())
    assert bool((terms.kl_NT == 0).all())
    assert not bool(terms.clipped_NT.any())
    assert terms.losses_NT.dtype == terms.kl_NT.dtype == dtype
    terms.losses_NT.sum().backward()
    # a reply that is one action moves as a whole with each of its tokens
    times = mask.sum(-1, keepdim=True) if (ratio, form) == ("reply", "clip") else 1
    torch.testing.assert_close(logps.grad, -advantages * mask * times)


def test_advantages_and_old_log_probabilities_are_constants() -> None:
    """A critic that shares the trunk is not moved by the policy's loss."""
    parts = [torch.full((1, 2), value, requires_grad=True) for value in (-1.0, -1.1, 2.0, 1.5)]
    logps, old, advantages, weights = parts
    terms = policy_terms(logps, old, advantages, real(old), clip_low=0.2, clip_high=0.2, weights_NT=weights)
    terms.losses_NT.sum().backward()
    assert [part.grad is None for part in parts] == [False, True, True, True]
    assert not any(part.requires_grad for part in (terms.ratio_NT, terms.kl_NT))


def test_weights_multiply_the_losses_and_are_truncated() -> None:
    old = torch.tensor([[-1.0, -1.0, -1.0, -1.0]])
    sampled = old - torch.tensor([[math.log(4.0), math.log(0.1), 0.0, NAN]])
    mask = torch.tensor([[True, True, True, False]])
    weights = importance_weights(old, sampled, mask, 0.5, 2.0)
    assert weights.flatten().tolist() == pytest.approx([2.0, 0.5, 1.0, 0.0])
    terms = policy_terms(
        old, old, torch.ones_like(old), mask, clip_low=0.2, clip_high=0.2, weights_NT=weights
    )
    assert terms.losses_NT.flatten().tolist() == pytest.approx([-2.0, -0.5, -1.0, 0.0])


@pytest.mark.parametrize(
    "wrong",
    [{"ratio": "sequence"}, {"form": "ppo"}, {"dual_clip": 1.1}, {"dual_clip": 3.0, "form": "cispo"}],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="|".join(map(str, wrong.values()))):
        at_ratio(1.0, 1.0, **wrong)


@pytest.mark.parametrize(
    ("value", "loss", "clipped"),
    [
        (1.1, 0.5 * 1.9**2, False),  # within 0.2 of the old 1
        (2.0, 0.5 * 1.8**2, True),  # half way to the return 3: held at 1.2
        (0.0, 0.5 * 3.0**2, False),  # away from it: what counts is the larger error
        (5.0, 0.5 * 2.0**2, False),
    ],
)
def test_the_value_loss(value: float, loss: float, clipped: bool) -> None:
    """½ max((V - 3)², (1 + clip(V - 1, ±0.2) - 3)²)."""
    values = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    old, returns = torch.ones_like(values).detach(), torch.full_like(values, 3.0).detach()
    losses, where = value_losses_NT(values, old, returns, 0.2)
    assert losses.item() == pytest.approx(loss, rel=1e-12)
    assert bool(where) is clipped
    losses.sum().backward()
    assert float(values.grad) == pytest.approx(0.0 if clipped else value - 3.0)
    free, nowhere = value_losses_NT(values, old, returns, None)
    assert free.item() == pytest.approx(0.5 * (value - 3) ** 2)
    assert not bool(nowhere)


def test_rounding_is_no_clipping() -> None:
    """In float32 old + (new - old) is not always new; within the range that counts as nothing."""
    generator = torch.Generator().manual_seed(0)
    old, values, returns = (torch.rand(3, 4, 1024, generator=generator) - 0.5) * 0.19
    beyond = (old + (values - old) - returns) ** 2 > (values - returns) ** 2
    assert bool(beyond.any())
    assert not bool(value_losses_NT(values, old, returns, 0.2)[1].any())


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize(
    "settings",
    [{}, {"ratio": "reply"}, {"ratio": "reply_mean"}, {"form": "cispo"}, {"dual_clip": 3.0}],
    ids=str,
)
@pytest.mark.parametrize(("mean", "length"), MEANS)
def test_padding_contributes_nothing(
    garbage: float, settings: dict[str, object], mean: str, length: float | None
) -> None:
    """Whatever stands there: neither in the loss, nor in a metric, nor in a gradient."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])

    def update(fill: float) -> list[Tensor]:
        generator.manual_seed(1)
        drawn = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(7))
        parts = [part.where(mask, torch.full_like(part, fill)) for part in drawn]
        logps, old, advantages, values, old_values, returns, weights = parts
        logps.requires_grad_()
        values.requires_grad_()
        terms = policy_terms(
            logps, old, advantages, mask, clip_low=0.2, clip_high=0.2, weights_NT=weights, **settings
        )
        value_losses, clipped = value_losses_NT(values, old_values, returns, 0.2, mask)
        losses = terms.losses_NT + value_losses + 0.1 * kl_NT(logps, old, "k3", mask)
        loss = total(losses, mask, mean, length) / weight(mask, mean, length)
        loss.backward()
        explained = torch.tensor(explained_variance(values, returns, mask))
        stats = [terms.ratio_NT, terms.clipped_NT, terms.kl_NT, clipped, explained]
        return [loss.detach(), logps.grad, values.grad, *stats]

    for dirty, clean in zip(update(garbage), update(0.0), strict=True):
        assert bool(dirty.isfinite().all())
        assert torch.equal(dirty, clean)
        if dirty.ndim == 2:
            assert not bool(dirty[~mask].any())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 8), st.sampled_from(MEANS))
def test_no_cut_into_micro_batches_shows(
    lengths: list[int], size: int, how: tuple[str, float | None]
) -> None:
    generator = torch.Generator().manual_seed(len(lengths))
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(-1)
    losses = torch.randn(len(lengths), 5, generator=generator, dtype=torch.float64)
    whole = total(losses, mask, *how) / weight(mask, *how)
    pieces = [
        total(part, real_part, *how)
        for part, real_part in zip(losses.split(size), mask.split(size), strict=True)
    ]
    torch.testing.assert_close(sum(pieces) / weight(mask, *how), whole, rtol=1e-12, atol=1e-12)
    by_length = sum(weight(part, *how) for part in mask.split(size))
    assert by_length == pytest.approx(weight(mask, *how), rel=1e-12)


def test_the_means_by_hand() -> None:
    """Replies of 1 and 3 tokens, losses 6 and 1, 2, 3: by token 12/4, by reply (6 + 2)/2, fixed 12/(2·10)."""
    losses = torch.tensor([[6.0, NAN, NAN], [1.0, 2.0, 3.0], [NAN, NAN, NAN]])
    mask = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    expected = {("token", None): 3.0, ("sequence", None): 4.0, ("fixed_length", 10.0): 0.6}
    for how, value in expected.items():
        assert float(total(losses, mask, *how)) / weight(mask, *how) == pytest.approx(value)
    with pytest.raises(ValueError, match="length in tokens above 0, got None"):
        weight(mask, "fixed_length")
    for function in (lambda: total(losses, mask, "mean"), lambda: weight(mask, "mean")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'mean'"):
            function()


def test_explained_variance_by_hand() -> None:
    """Returns 1, 3 (variance 1): right, a constant, off by a constant, the wrong way round."""
    returns, mask = torch.tensor([[1.0, 3.0, NAN]]), torch.tensor([[True, True, False]])
    cases = {(1.0, 3.0): 1.0, (2.0, 2.0): 0.0, (11.0, 13.0): 1.0, (3.0, 1.0): -3.0}
    for values, explained in cases.items():
        assert explained_variance(torch.tensor([[*values, NAN]]), returns, mask) == pytest.approx(explained)
    assert explained_variance(returns, torch.full_like(returns, 2.0), mask) == 0.0
    assert explained_variance(returns, returns, torch.zeros_like(mask)) == 0.0


# -- the optimum of a one-token task: 8 answers, each with a reward ---------------------------------------

BETA = 0.4
_generator = torch.Generator().manual_seed(3)
REWARD = torch.randn(8, generator=_generator, dtype=torch.float64)
LOG_REFERENCE = torch.randn(8, generator=_generator, dtype=torch.float64).log_softmax(0)
OPTIMUM = (LOG_REFERENCE + REWARD / BETA).log_softmax(0)
ELSEWHERE = (0.7 * OPTIMUM + 0.3 * LOG_REFERENCE).log_softmax(0)


def slope(log_old: Tensor, in_reward: bool, estimator: str) -> Tensor:
    """Gradient of the expected first update, each answer weighted by the policy's chance of drawing it."""
    logits = log_old.clone().requires_grad_()
    logps, old = logits.log_softmax(0).unsqueeze(-1), log_old.unsqueeze(-1)
    reference, mask = LOG_REFERENCE.unsqueeze(-1), real(old)
    rewards = shape_rewards(REWARD, kl_NT(old, reference, "k1"), mask, BETA if in_reward else 0.0)
    value = (old.exp() * rewards).sum()
    estimate = gae(rewards, value.expand_as(rewards), mask, 1.0, 0.95)
    terms = policy_terms(logps, old, estimate.advantages_NT, mask, clip_low=0.2, clip_high=0.2)
    losses = terms.losses_NT
    if not in_reward:
        losses = losses + BETA * kl_NT(logps, reference, estimator)
    (old.exp() * losses).sum().backward()
    assert logits.grad is not None
    return logits.grad


def objective(log_policy: Tensor) -> float:
    """E[r] - β KL(π || π_ref)."""
    return float((log_policy.exp() * (REWARD - BETA * (log_policy - LOG_REFERENCE))).sum())


@pytest.mark.parametrize(("in_reward", "estimator"), [(True, "k1"), (False, "k2")])
def test_the_update_rests_at_the_closed_form_optimum(in_reward: bool, estimator: str) -> None:
    """π_ref exp(r/β)/Z, with the KL in the reward, or in the loss as k2; elsewhere it climbs."""
    assert float(slope(OPTIMUM, in_reward, estimator).abs().max()) < 1e-12
    step = slope(ELSEWHERE, in_reward, estimator)
    assert float(step.abs().max()) > 1e-2
    assert objective((ELSEWHERE - 1e-3 * step).log_softmax(0)) > objective(ELSEWHERE)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_other_estimates_in_the_loss_rest_elsewhere(estimator: str) -> None:
    """k1 has no gradient there, k3 the forward KL's: neither holds the policy at that optimum."""
    assert float(slope(OPTIMUM, False, estimator).abs().max()) > 1e-2
