"""CHES by hand."""

from __future__ import annotations

import pytest
import torch

from align.evaluation.displacement import ches

NAN = float("nan")
CHOSEN = torch.tensor([[[NAN, NAN], [1.0, 0.0], [1.0, 2.0], [NAN, NAN]]], dtype=torch.float64)
REJECTED = torch.tensor([[[3.0, 1.0], [1.0, 0.0], [2.0, -1.0], [9.0, 9.0]]], dtype=torch.float64)
CHOSEN_MASK = torch.tensor([[False, True, True, False]])
REJECTED_MASK = torch.tensor([[True, True, True, False]])


def test_sums_and_means_by_hand() -> None:
    """h+ = (2, 2), h- = (6, 0): 12 - 8 = 4; means (1, 1) and (2, 0): 2 - 2 = 0."""
    sides = (CHOSEN, CHOSEN_MASK, REJECTED, REJECTED_MASK)
    assert ches(*sides).tolist() == [4.0]
    assert ches(*sides, per_token=True).tolist() == pytest.approx([0.0])
    other = (REJECTED, REJECTED_MASK, CHOSEN, CHOSEN_MASK)
    assert ches(*other).tolist() == [12.0 - 36.0]


def test_equal_replies_score_zero() -> None:
    """<h, h> - |h|²."""
    assert ches(REJECTED, REJECTED_MASK, REJECTED, REJECTED_MASK).tolist() == [0.0]


def test_it_ranks_by_how_far_a_step_moves_the_chosen_reply() -> None:
    """One token, a linear softmax head and free hidden states (the paper's setting, section 4).

    A small step on log π(chosen) - log π(rejected) in the head W moves the chosen logit by
    |h+|² - <h+, h->: the opposite of the score.
    """
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randn(8, 1, 3, generator=generator, dtype=torch.float64)
    rejected = torch.randn(8, 1, 3, generator=generator, dtype=torch.float64)
    every = torch.ones(8, 1, dtype=torch.bool)
    head = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    moved = []
    for good, bad in zip(chosen[:, 0], rejected[:, 0], strict=True):
        (step,) = torch.autograd.grad((good - bad) @ head, head)
        moved.append(float(good @ step))
    assert ches(chosen, every, rejected, every).tolist() == pytest.approx([-one for one in moved])
