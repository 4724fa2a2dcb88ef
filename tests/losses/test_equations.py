"""Every pair loss against a plain float64 transcription of its paper's equation, one pair at a time.

``math`` only, and as the papers write it: nothing here is stable or batched. The other losses (robust, hinge,
nca, sppo, apo_down) are held by published numbers in ``tests/parity``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from made_pairs import PAIRS, Pair, component, logps_of

from align.losses.aot import Aot
from align.losses.aot_unpaired import AotUnpaired
from align.losses.bco import Bco
from align.losses.sft import Sft

Equation = Callable[[Pair], float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def ratios(p: Pair) -> tuple[float, float]:
    """log π/π_ref of the chosen and of the rejected reply."""
    return p.chosen - p.base_chosen, p.rejected - p.base_rejected


def means(p: Pair) -> tuple[float, float]:
    """Mean log-probability of a token, of either reply."""
    return p.chosen / p.length_chosen, p.rejected / p.length_rejected


def dpo(p: Pair) -> float:
    chosen, rejected = ratios(p)
    return -math.log(sigmoid(0.1 * chosen - 0.1 * rejected))


def dpo_under(derivative: Callable[[float], float]) -> Equation:
    """Wang et al. 2023, eq. 7: -log σ(β f'(u_w) - β f'(u_l)), u the probability ratios."""

    def value(p: Pair) -> float:
        chosen, rejected = (derivative(math.exp(ratio)) for ratio in ratios(p))
        return -math.log(sigmoid(0.1 * chosen - 0.1 * rejected))

    return value


def dpo_per_token(p: Pair) -> float:
    chosen, rejected = ratios(p)
    return -math.log(sigmoid(0.1 / p.length_chosen * chosen - 0.1 / p.length_rejected * rejected))


def ipo(p: Pair) -> float:
    """Azar et al. 2023, eq. 17, at τ = 0.2: the target is 2.5."""
    chosen, rejected = ratios(p)
    return (chosen - rejected - 1 / (2 * 0.2)) ** 2


def exo(p: Pair) -> float:
    """Ji et al. 2024, eq. 16: Σ q log(q/p) over the two replies, ε = 1e-3."""
    chosen, rejected = ratios(p)
    q = sigmoid(0.1 * (chosen - rejected))
    return q * math.log(q / (1 - 1e-3)) + (1 - q) * math.log((1 - q) / 1e-3)


def apo_zero(p: Pair) -> float:
    """D'Oosterlinck et al. 2024, eq. 7."""
    chosen, rejected = ratios(p)
    return 1 - sigmoid(0.1 * chosen) + sigmoid(0.1 * rejected)


def discopop(p: Pair) -> float:
    """Lu et al. 2024, eq. 5."""
    chosen, rejected = ratios(p)
    z = 0.05 * (chosen - rejected)
    blend = sigmoid(z / 0.05)
    return (1 - blend) * -math.log(sigmoid(z)) + blend * math.exp(-z)


def simpo(p: Pair) -> float:
    """Meng et al. 2024, eq. 6, at β = 2, γ = 0.5."""
    chosen, rejected = means(p)
    return -math.log(sigmoid(2 * chosen - 2 * rejected - 0.5))


def cpo(p: Pair) -> float:
    """Xu et al. 2024, eq. 3, with the likelihood per token."""
    return -math.log(sigmoid(0.1 * p.chosen - 0.1 * p.rejected)) - means(p)[0]


def orpo(p: Pair) -> float:
    """Hong et al. 2024, eq. 4, 6 and 7, at λ = 0.1."""
    chosen, rejected = (math.exp(mean) / (1 - math.exp(mean)) for mean in means(p))
    return -means(p)[0] - 0.1 * math.log(sigmoid(math.log(chosen / rejected)))


def humanline(p: Pair) -> float:
    """With the same log-ratio at every token of a reply, the clamp acts on the mean log-ratio."""
    chosen, rejected = ratios(p)
    chosen = p.length_chosen * min(max(chosen / p.length_chosen, -0.1), 0.2)
    rejected = p.length_rejected * min(max(rejected / p.length_rejected, -0.1), 0.2)
    return -math.log(sigmoid(0.1 * (chosen - rejected)))


def length_desensitised(p: Pair) -> float:
    """A share of common / length counts whole, the rest by a quarter."""
    common = min(p.length_chosen, p.length_rejected)
    chosen, rejected = ratios(p)
    chosen *= (common + 0.25 * (p.length_chosen - common)) / p.length_chosen
    rejected *= (common + 0.25 * (p.length_rejected - common)) / p.length_rejected
    return -math.log(sigmoid(0.1 * (chosen - rejected)))


EQUATIONS: list[tuple[str, dict[str, object], Equation]] = [
    ("dpo", {}, dpo),
    ("dpo", {"divergence": "forward_kl"}, dpo_under(lambda u: -1 / u)),
    ("dpo", {"divergence": "js"}, dpo_under(lambda u: math.log(2 * u / (1 + u)))),
    ("dpo", {"divergence": "alpha", "alpha": 0.3}, dpo_under(lambda u: (1 - u**-0.3) / 0.3)),
    ("dpo", {"divergence": "alpha", "alpha": 0.0}, dpo_under(math.log)),
    ("dpo", {"per_token": True}, dpo_per_token),
    ("ipo", {"beta": 0.2}, ipo),
    ("exo", {}, exo),
    ("apo_zero", {}, apo_zero),
    ("discopop", {}, discopop),
    ("simpo", {}, simpo),
    ("cpo", {}, cpo),
    ("orpo", {}, orpo),
    ("sft", {"average": "replies"}, lambda p: -means(p)[0]),
    ("slic", {}, lambda p: max(0.0, 1.0 - p.chosen + p.rejected) - 0.1 * p.chosen),
    ("humanline", {"low": -0.1, "high": 0.2}, humanline),
    ("length_desensitised", {"alpha": 0.25}, length_desensitised),
]


@pytest.mark.parametrize(
    ("name", "settings", "equation"), EQUATIONS, ids=[f"{n}-{s}" for n, s, _ in EQUATIONS]
)
def test_a_loss_is_its_papers_equation(name: str, settings: dict[str, object], equation: Equation) -> None:
    losses = component(name, **settings)(logps_of(PAIRS)).losses
    assert losses.tolist() == pytest.approx([equation(pair) for pair in PAIRS], rel=1e-12)


def test_aot_compares_sorted_margins() -> None:
    """Policy margins 5, -18.5, 0.5 and reference margins -1, -16, 0.25, each sorted, then paired by rank."""
    deltas = [-18.5 + 16.0, 0.5 + 1.0, 5.0 - 0.25]
    assert Aot()(logps_of(PAIRS)).losses.tolist() == pytest.approx(
        [-math.log(sigmoid(0.1 * d)) for d in deltas]
    )


def test_unpaired_aot_compares_sorted_log_ratios() -> None:
    """Chosen log-ratios 2, -1, 0 and rejected ones -4, 1.5, -0.25, each sorted, then paired by rank."""
    deltas = [-1.0 + 4.0, 0.0 + 0.25, 2.0 - 1.5]
    losses = AotUnpaired()(logps_of(PAIRS)).losses
    assert losses.tolist() == pytest.approx([-math.log(sigmoid(0.1 * d)) for d in deltas])


def test_bco_shifts_by_the_mean_reward_without_gradient() -> None:
    """Log-ratios 2, -1, 0 and -4, 1.5, -0.25: their mean is -1.75/6, the shift 0.1 times that."""
    logps = logps_of(PAIRS)
    chosen = logps.policy_chosen.clone().requires_grad_()
    losses = Bco()(replace(logps, policy_chosen=chosen)).losses
    shift = 0.1 * -1.75 / 6
    expected = [
        -math.log(sigmoid(0.1 * high - shift)) - math.log(sigmoid(shift - 0.1 * low))
        for high, low in map(ratios, PAIRS)
    ]
    assert losses.tolist() == pytest.approx(expected)
    losses.sum().backward()
    assert chosen.grad.tolist() == pytest.approx(
        [-0.1 * sigmoid(shift - 0.1 * w) for w, _ in map(ratios, PAIRS)]
    )


def test_sft_over_tokens_counts_every_token_alike() -> None:
    """Sums -20, -31, -3 over 8 + 11 + 2 tokens: the mean of the losses is 54/21, whatever the lengths."""
    losses = Sft(average="tokens")(logps_of(PAIRS)).losses
    assert float(losses.mean()) == pytest.approx(54 / 21)
    # One pair's share is its own sum, times the number of pairs over the number of tokens.
    assert losses.tolist() == pytest.approx([20 * 3 / 21, 31 * 3 / 21, 3 * 3 / 21])
