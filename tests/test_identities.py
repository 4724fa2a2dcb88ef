"""What must come out of the losses, whoever implements them (exact results; no reference implementation).

Policies are softmax over a handful of answers, so that expectations and optima are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from align.losses.aot import Aot
from align.losses.aot_unpaired import AotUnpaired
from align.losses.dpo import Dpo
from align.losses.hinge import Hinge
from align.losses.ipo import Ipo
from align.losses.robust import Robust
from align.protocols import PairLoss
from align.reward_losses.bradley_terry import BradleyTerry
from align.tensors import PairLogps

BETA = 0.5


def pairs(policy_chosen: Tensor, policy_rejected: Tensor) -> PairLogps:
    """Pairs of one-token replies whose reference log-probability is log ½."""
    ones, half = (
        torch.ones_like(policy_chosen).detach(),
        torch.full_like(policy_chosen, math.log(0.5)).detach(),
    )
    return PairLogps(policy_chosen, policy_rejected, half, half, ones, ones)


def descend(loss_of: Callable[[Tensor], Tensor], size: int, steps: int, rate: float) -> Tensor:
    """Adam from zero on ``size`` float64 parameters, the rate falling to nothing."""
    parameters = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss_of(parameters).backward()
        optimiser.step()
        schedule.step()
    return parameters.detach()


def margin_after(loss: PairLoss, steps: int = 200, rate: float = 0.3) -> float:
    """Margin of the log-ratios after descent on one deterministic preference between two answers."""

    def value(logits: Tensor) -> Tensor:
        log_policy = logits.log_softmax(0)
        return loss(pairs(log_policy[:1], log_policy[1:])).losses.mean()

    # The reference is uniform, so the margin of the log-ratios is the logits' difference.
    logits = descend(value, 2, steps, rate)
    return float(logits[0] - logits[1])


def test_dpo_on_exact_preferences_has_the_closed_form_optimum() -> None:
    """Rafailov et al. 2023, eq. 4-5: π* = π_ref exp(r/β)/Z, and β log π*/π_ref is r up to a constant."""
    generator = torch.Generator().manual_seed(0)
    n = 6
    reward = torch.randn(n, generator=generator, dtype=torch.float64)
    log_reference = torch.randn(n, generator=generator, dtype=torch.float64).log_softmax(0)
    first, second = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    off = first != second
    first, second = first[off], second[off]
    preferred = (reward[first] - reward[second]).sigmoid()  # each ordered pair, weighted by its probability
    ones = torch.ones(len(first))

    def expected(logits: Tensor) -> Tensor:
        log_policy = logits.log_softmax(0)
        values = Dpo(beta=BETA)(
            PairLogps(
                log_policy[first], log_policy[second], log_reference[first], log_reference[second], ones, ones
            )
        )
        return (preferred * values.losses).sum() / preferred.sum()

    log_policy = descend(expected, n, steps=200, rate=0.3).log_softmax(0)
    log_optimum = (log_reference + reward / BETA).log_softmax(0)
    kl = float((log_policy.exp() * (log_policy - log_optimum)).sum())
    assert 0 <= kl < 1e-3
    implicit = BETA * (log_policy - log_reference)
    assert float(torch.corrcoef(torch.stack([implicit, reward]))[0, 1]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.25, 1.0])
def test_ipos_margin_goes_to_half_over_tau(tau: float) -> None:
    assert margin_after(Ipo(beta=tau)) == pytest.approx(1 / (2 * tau), abs=1e-3)


@pytest.mark.parametrize("flip", [0.1, 0.3])
def test_conservative_dpos_margin_goes_to_a_logit(flip: float) -> None:
    """-(1-ε) log σ(z) - ε log σ(-z) is least where σ(z) = 1-ε."""
    margin = margin_after(Dpo(beta=BETA, label_smoothing=flip))
    assert margin == pytest.approx(math.log((1 - flip) / flip) / BETA, abs=1e-3)


def test_the_hinge_stops_at_one_over_beta() -> None:
    """Plain descent passes the kink by less than a step (0.9e-3 in the margin) and never moves again."""
    logits = torch.tensor([0.95, -0.95], dtype=torch.float64, requires_grad=True)
    margins = []
    for _ in range(200):
        log_policy = logits.log_softmax(0)
        loss = Hinge(beta=BETA)(pairs(log_policy[:1], log_policy[1:])).losses.mean()
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 0.9e-3 * gradient
        margins.append(float(logits[0].detach() - logits[1].detach()))
    assert margins[0] < margins[50] < 1 / BETA
    assert margins[-1] == pytest.approx(1 / BETA, abs=1e-3)
    assert margins[-1] == margins[-50]


def test_dpos_margin_grows_without_bound() -> None:
    """More steps, more margin; and at any margin the gradient still widens it."""
    margins = [margin_after(Dpo(beta=BETA), steps, rate=0.5) for steps in (20, 80, 320)]
    assert margins[0] < margins[1] < margins[2]
    chosen = torch.tensor([5.0, 50.0, 500.0], dtype=torch.float64, requires_grad=True)
    Dpo(beta=BETA)(pairs(chosen, -chosen.detach())).losses.sum().backward()
    assert (chosen.grad < 0).all()


def flipped_expectation(loss: PairLoss, margins: Tensor, flip: float) -> Tensor:
    """Expected loss over labels that are flipped with probability ``flip``."""
    half = margins / 2
    clean, wrong = loss(pairs(half, -half)).losses, loss(pairs(-half, half)).losses
    return (1 - flip) * clean + flip * wrong


@pytest.mark.parametrize("flip", [0.05, 0.2, 0.45])
def test_robust_dpo_is_unbiased_under_flips_and_conservative_dpo_is_not(flip: float) -> None:
    margins = torch.linspace(-20, 20, 41, dtype=torch.float64)
    clean = Dpo(beta=BETA)(pairs(margins / 2, -margins / 2)).losses
    robust = flipped_expectation(Robust(beta=BETA, label_smoothing=flip), margins, flip)
    torch.testing.assert_close(robust, clean, rtol=0, atol=1e-12)
    # Conservative DPO's bias is 2ε(1-ε)·β·margin: -log σ(-z) = -log σ(z) + z, applied twice.
    conservative = flipped_expectation(Dpo(beta=BETA, label_smoothing=flip), margins, flip)
    bias = 2 * flip * (1 - flip) * BETA * margins
    torch.testing.assert_close(conservative - clean, bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        Dpo(),
        Dpo(label_smoothing=0.2),
        Dpo(divergence="js"),
        Dpo(per_token=True),
        Robust(),
        Aot(),
        AotUnpaired(),
    ],
)
def test_the_first_step_costs_ln_2(loss: PairLoss) -> None:
    """Policy = reference: every margin is 0 and the loss -log σ(0) = ln 2."""
    generator = torch.Generator().manual_seed(1)
    logps = -40 * torch.rand(2, 5, generator=generator, dtype=torch.float64)
    lengths = torch.arange(1, 6)
    start = PairLogps(logps[0], logps[1], logps[0].clone(), logps[1].clone(), lengths, lengths.flip(0))
    result = loss(start)
    torch.testing.assert_close(result.losses, torch.full_like(result.losses, math.log(2)), rtol=0, atol=1e-12)
    assert not result.chosen_rewards.any()
    assert not result.rejected_rewards.any()


def test_equal_scores_cost_ln_2() -> None:
    scores = torch.tensor([-3.0, 0.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(
        BradleyTerry()(scores, scores.clone(), None), torch.full_like(scores, math.log(2)), rtol=0, atol=1e-12
    )
