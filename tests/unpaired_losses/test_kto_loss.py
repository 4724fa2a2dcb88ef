"""KTO's values worked out by hand, its gradient against the paper's, and what each baseline is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from align.errors import ConfigError
from align.tensors import UnpairedLogps
from align.unpaired_losses.kto import Kto


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logps(
    ratios: list[float], labels: list[bool], mismatched: list[float] | None = None, base: float = -20.0
) -> UnpairedLogps:
    """Log-probabilities whose log-ratios are these; the policy's carry gradients."""
    reference = torch.full((len(ratios),), base, dtype=torch.float64)
    policy = (reference + torch.tensor(ratios, dtype=torch.float64)).requires_grad_()
    others: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
    if mismatched is not None:
        other = torch.full((len(mismatched),), base, dtype=torch.float64)
        others = ((other + torch.tensor(mismatched, dtype=torch.float64)).requires_grad_(), other)
    return UnpairedLogps(policy, reference, torch.tensor(labels), *others)


def test_the_loss_by_hand() -> None:
    """z is the mean of 3 and 1. Desirable, r = 5: 1 - σ(0.1·(5-2)); undesirable, r = -4: 1 - σ(0.1·(2+4))."""
    out = Kto(beta=0.1)(logps([5.0, -4.0], [True, False], mismatched=[3.0, 1.0]))
    assert out.losses.tolist() == pytest.approx([1 - sigmoid(0.3), 1 - sigmoid(0.6)], abs=1e-12)
    assert out.rewards.tolist() == pytest.approx([0.5, -0.4], abs=1e-12)
    assert out.baselines.tolist() == [2.0, 2.0]
    assert not out.rewards.requires_grad
    assert not out.baselines.requires_grad


def test_each_label_has_its_weight() -> None:
    given = logps([5.0, -4.0, 1.0], [True, False, True], mismatched=[2.0])
    plain, weighted = Kto()(given), Kto(desirable_weight=1.5, undesirable_weight=0.5)(given)
    assert (weighted.losses / plain.losses).tolist() == pytest.approx([1.5, 0.5, 1.5])


def test_an_estimate_of_kl_below_zero_counts_as_zero() -> None:
    out = Kto()(logps([0.0, 0.0], [True, False], mismatched=[-8.0, 2.0]))
    assert out.baselines.tolist() == [0.0, 0.0]
    assert out.losses.tolist() == [0.5, 0.5]


def test_the_gradient_is_the_papers_and_passes_by_the_baseline() -> None:
    """d/dr of w(1 - σ(β(r - z))) is -w·β·σ(1 - σ); of w(1 - σ(β(z - r))) its opposite."""
    given = logps([5.0, -4.0], [True, False], mismatched=[3.0, 1.0])
    Kto(beta=0.1, undesirable_weight=2.0)(given).losses.sum().backward()
    good, bad = sigmoid(0.3), sigmoid(0.6)
    assert given.policy.grad is not None
    expected = [-0.1 * good * (1 - good), 2 * 0.1 * bad * (1 - bad)]
    assert given.policy.grad.tolist() == pytest.approx(expected, abs=1e-12)
    assert given.policy_mismatched is not None
    assert given.policy_mismatched.grad is None


def test_the_other_label_as_baseline() -> None:
    """Desirable replies are held against the undesirable's mean, (1 + 5)/2, and those against 4."""
    out = Kto(baseline="other_label")(logps([4.0, 1.0, 5.0], [True, False, False]))
    assert out.baselines.tolist() == [3.0, 4.0, 4.0]
    assert out.losses.tolist() == pytest.approx(
        [1 - sigmoid(0.1), 1 - sigmoid(0.3), 1 - sigmoid(-0.1)], abs=1e-12
    )


@pytest.mark.parametrize("label", [True, False])
def test_a_batch_of_one_label_has_no_other_label_to_be_held_against(label: bool) -> None:
    out = Kto(baseline="other_label")(logps([4.0, 1.0], [label, label]))
    assert out.baselines.tolist() == [0.0, 0.0]


def test_without_a_baseline_it_is_unpaired_apo_zero() -> None:
    """σ falls for the desirable and rises for the undesirable: 1 - σ(βr) and σ(βr)."""
    out = Kto(baseline="none")(logps([4.0, 1.0], [True, False]))
    assert out.losses.tolist() == pytest.approx([1 - sigmoid(0.4), sigmoid(0.1)], abs=1e-12)


def test_it_is_finite_where_a_policy_has_gone_far() -> None:
    given = logps([5e4, -5e4, 5e4, -5e4], [True, True, False, False], mismatched=[0.0])
    out = Kto(beta=1.0)(given)
    out.losses.sum().backward()
    assert out.losses.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert given.policy.grad is not None
    assert given.policy.grad.isfinite().all()


def test_half_precision_is_widened() -> None:
    half = UnpairedLogps(
        torch.tensor([-3.0], dtype=torch.bfloat16),
        torch.tensor([-4.0], dtype=torch.bfloat16),
        torch.tensor([True]),
    )
    assert Kto(baseline="none")(half).losses.dtype == torch.float32


def test_weights_of_which_none_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="both 0"):
        Kto(desirable_weight=0.0, undesirable_weight=0.0)


def test_missing_mismatched_replies_are_said() -> None:
    with pytest.raises(ValueError, match="mismatched replies, which are missing"):
        Kto()(logps([1.0], [True]))
