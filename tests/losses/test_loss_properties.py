"""What every pair loss does: flags it keeps, extremes it stands, symmetries, and settings it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pairs import PAIRS, Pair, component, logps_of
from torch import Tensor

from align import registry
from align.errors import ConfigError
from align.losses._terms import log1mexp, power_score
from align.losses.dpo import Dpo
from align.losses.mixture import Mixture, Term
from align.losses.sft import Sft
from align.protocols import PairLoss
from align.tensors import PairLogps, TokenLogps

NAMES = registry.known("loss")


def needed(loss: PairLoss, logps: PairLogps) -> PairLogps:
    """Only what the loss declares that it needs."""
    if not loss.needs_reference:
        logps = replace(logps, reference_chosen=None, reference_rejected=None, reference_tokens=None)
    return logps if loss.needs_tokens else replace(logps, policy_tokens=None, reference_tokens=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_runs_on_what_it_declares_and_detaches_its_rewards(name: str) -> None:
    loss, logps = component(name), logps_of(PAIRS)
    tokens = TokenLogps(logps.policy_tokens.logps_BT.clone().requires_grad_(), logps.policy_tokens.mask_BT)
    sums = tokens.sums_B().chunk(2)
    logps = replace(logps, policy_chosen=sums[0], policy_rejected=sums[1], policy_tokens=tokens)
    result = loss(needed(loss, logps))
    for values in (result.losses, result.chosen_rewards, result.rejected_rewards):
        assert values.shape == (3,)
    result.losses.mean().backward()
    assert tokens.logps_BT.grad.isfinite().all()
    assert tokens.logps_BT.grad[:3].any()
    assert not result.chosen_rewards.requires_grad
    assert not result.rejected_rewards.requires_grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_loss_overflows(name: str, dtype: torch.dtype) -> None:
    """Log-ratios up to ±1e4 nats, both ways: losses finite, in float32 at least, and so their gradients."""
    far = [
        Pair(-1e4, -1.0, -1.0, -1e4, 1, 1),
        Pair(-1.0, -1e4, -1e4, -1.0, 1, 1),
        Pair(-1e4, -1e4, 0.0, 0.0, 9, 3),
        Pair(0.0, 0.0, -1e4, -1e4, 9, 3),
    ]
    logps = logps_of(far, dtype)
    leaf = logps.policy_tokens.logps_BT.clone().requires_grad_()
    tokens = TokenLogps(leaf, logps.policy_tokens.mask_BT)
    sums = tokens.sums_B().chunk(2)
    logps = replace(logps, policy_chosen=sums[0], policy_rejected=sums[1], policy_tokens=tokens)
    result = component(name)(logps)
    assert result.losses.dtype == torch.float32
    assert result.losses.isfinite().all()
    result.losses.mean().backward()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
def test_no_divergence_overflows(divergence: str) -> None:
    alpha = {"alpha": 0.7} if divergence == "alpha" else {}
    policy = torch.tensor([-1e4, -1.0], requires_grad=True)
    ones = torch.ones(2)
    logps = PairLogps(policy, policy.detach().flip(0), policy.detach().flip(0), policy.detach(), ones, ones)
    losses = component("dpo", divergence=divergence, **alpha)(logps).losses
    losses.sum().backward()
    assert losses.isfinite().all()
    assert policy.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in NAMES if component(name).needs_reference])
def test_a_missing_reference_is_named(name: str) -> None:
    bare = replace(logps_of(PAIRS), reference_chosen=None, reference_rejected=None, reference_tokens=None)
    with pytest.raises(ValueError, match="needs_reference"):
        component(name)(bare)


@pytest.mark.parametrize("name", ["humanline", "length_desensitised"])
def test_missing_tokens_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="needs_tokens"):
        component(name)(replace(logps_of(PAIRS), policy_tokens=None))


def test_log1mexp_keeps_its_digits() -> None:
    """log(1 - e^x): near 0 it is log(-x) + x/2, far from it -e^x."""
    x = torch.tensor([-1e-12, -1e-3, -0.5, -0.9, -40.0, 0.0], dtype=torch.float64, requires_grad=True)
    value = log1mexp(x)
    expected = [math.log(1e-12), math.log(-math.expm1(-1e-3)), math.log(-math.expm1(-0.5))]
    expected += [math.log1p(-math.exp(-0.9)), -math.exp(-40.0), math.log(torch.finfo(torch.float64).eps)]
    assert value.tolist() == pytest.approx(expected, rel=1e-12)
    value.sum().backward()
    assert x.grad.isfinite().all()


def test_a_small_alpha_keeps_its_digits() -> None:
    """(1 - u^-α)/α goes to log u as α goes to 0; computed plainly it would be 0 or 2 log u at α = 1e-17."""
    log_u = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(power_score(log_u, 1e-17), log_u, rtol=1e-12, atol=0)


numbers = st.floats(-60, -0.5)
lengths = st.integers(1, 40)
batches = st.lists(
    st.builds(Pair, numbers, numbers, numbers, numbers, lengths, lengths), min_size=2, max_size=5
)
UNCOUPLED = [name for name in NAMES if not component(name).couples_batch]


def swapped(pairs: list[Pair]) -> list[Pair]:
    return [Pair(*(pair[i] for i in (1, 0, 3, 2, 5, 4))) for pair in pairs]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(batches)
def test_uncoupled_losses_do_not_see_each_other(pairs: list[Pair]) -> None:
    for name in UNCOUPLED:
        loss = component(name)
        alone = torch.cat([loss(logps_of([one])).losses for one in pairs])
        close(loss(logps_of(pairs)).losses, alone)


@settings(max_examples=25, deadline=None)
@given(batches)
def test_the_order_of_the_pairs_is_nothing_to_the_mean(pairs: list[Pair]) -> None:
    for name in NAMES:
        loss = component(name)
        close(loss(logps_of(pairs)).losses.mean(), loss(logps_of(pairs[::-1])).losses.mean())


@settings(max_examples=25, deadline=None)
@given(batches)
def test_swapping_the_sides_swaps_the_rewards_and_costs_the_margin(pairs: list[Pair]) -> None:
    """-log σ(-z) + log σ(z) = z: the two losses of DPO differ by exactly the margin of the rewards."""
    there, back = Dpo()(logps_of(pairs)), Dpo()(logps_of(swapped(pairs)))
    close(there.chosen_rewards, back.rejected_rewards)
    close(back.losses - there.losses, there.chosen_rewards - there.rejected_rewards)


@settings(max_examples=25, deadline=None)
@given(batches, st.floats(-30, 30))
def test_losses_of_the_margin_do_not_see_a_common_shift(pairs: list[Pair], shift: float) -> None:
    """The prompt's own factor log Z(x) cancels: that is what lets DPO do without it."""
    moved = [p._replace(chosen=p.chosen + shift, rejected=p.rejected + shift) for p in pairs]
    for name in ("dpo", "robust", "ipo", "hinge", "exo", "discopop", "aot"):
        close(component(name)(logps_of(pairs)).losses, component(name)(logps_of(moved)).losses)


@settings(max_examples=25, deadline=None)
@given(batches, st.floats(0, 3), st.floats(0, 3))
def test_a_mixture_is_the_weighted_sum(pairs: list[Pair], a: float, b: float) -> None:
    logps = logps_of(pairs)
    mixture = Mixture((Term(component("ipo"), a), Term(Sft(), b)))
    close(mixture(logps).losses, a * component("ipo")(logps).losses + b * Sft()(logps).losses)
    close(mixture(logps).chosen_rewards, component("ipo")(logps).chosen_rewards)


@settings(max_examples=25, deadline=None)
@given(batches)
def test_the_wrappers_change_nothing_where_nothing_is_to_be_done(pairs: list[Pair]) -> None:
    plain = Dpo()(logps_of(pairs)).losses
    close(component("length_desensitised", alpha=1.0)(logps_of(pairs)).losses, plain)
    close(component("humanline", low=-100.0, high=100.0)(logps_of(pairs)).losses, plain)


def test_flags_follow_the_settings() -> None:
    assert not component("dpo", reference_free=True).needs_reference
    assert component("dpo").needs_reference
    assert not component("bco", shift="none").couples_batch
    mixture = component("mixture", terms=[{"loss": {"name": "simpo"}}, {"loss": {"name": "bco"}}])
    assert (mixture.needs_reference, mixture.needs_tokens, mixture.couples_batch) == (True, False, True)
    clamped = component("humanline", inner={"name": "simpo"})
    assert (clamped.needs_reference, clamped.needs_tokens, clamped.couples_batch) == (False, True, False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("robust", {"label_smoothing": 0.5}, r"at least 0 and below 0\.5, got 0\.5"),
        ("exo", {"label_smoothing": 0.0}, "above 0"),
        ("discopop", {"tau": 2.0}, "at most 1"),
        ("dpo", {"beta": 0.0}, "above 0"),
        ("dpo", {"divergence": "alpha"}, "alpha goes with divergence=alpha"),
        ("dpo", {"alpha": 0.5}, "divergence=reverse_kl and alpha=0.5"),
        ("dpo", {"divergence": "kl"}, "reverse_kl"),
        ("simpo", {"kind": "hinge", "label_smoothing": 0.1}, "kind=hinge takes no label_smoothing"),
        ("mixture", {"terms": []}, "terms is empty"),
        ("mixture", {"terms": [{"weight": -1.0, "loss": {"name": "dpo"}}]}, r"terms\[0\]\.weight"),
        ("mixture", {"terms": [{"loss": {"name": "dpo", "bta": 1}}]}, "Did you mean 'beta'"),
        ("humanline", {"low": 0.5}, "at most 0"),
    ],
)
def test_a_bad_setting_is_refused_with_a_reason(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        component(name, **options)
