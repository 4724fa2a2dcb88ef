"""Labelled replies as an objective: which are mismatched, what is counted, what the baseline costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from align.packing.layout import ReplyGroup
from align.tensors import TokenLogps, TokenUnpaired, Work
from align.training.unpaired import Mismatched, Unpaired
from align.unpaired_losses.kto import Kto


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


def replies(count: int) -> list[TokenUnpaired]:
    """Prompt (n,) and reply (100 + n,), desirable where n is even."""
    return [TokenUnpaired(f"r{n}", ids(n), ids(100 + n), n % 2 == 0) for n in range(count)]


def matched(found: Mismatched) -> list[tuple[int, int]]:
    """Number of each prompt and of the reply that it got."""
    both = (found[i] for i in range(len(found)))
    return [(int(one.prompt_ids[0]), int(one.reply_ids[0]) - 100) for one in both]


def test_each_prompt_gets_the_reply_before_it_in_its_round() -> None:
    found = Mismatched(replies(9), [4, 2, 7, 1, 0, 3], 3, 64)
    assert matched(found) == [(4, 7), (2, 4), (7, 2), (1, 3), (0, 1), (3, 0)]


def test_a_last_round_may_be_shorter() -> None:
    found = Mismatched(replies(5), range(5), 3, 64)
    assert matched(found) == [(0, 2), (1, 0), (2, 1), (3, 4), (4, 3)]


def test_a_prompt_loses_its_oldest_tokens_to_a_reply_that_is_longer_than_its_own() -> None:
    items = [
        TokenUnpaired("a", ids(1, 2, 3, 4), ids(9), True),
        TokenUnpaired("b", ids(5), ids(6, 7, 8), False),
    ]
    found = Mismatched(items, [0, 1], 2, max_length=5)
    assert found[0].prompt_ids.tolist() == [3, 4]
    assert found[0].reply_ids.tolist() == [6, 7, 8]
    assert found[1].prompt_ids.tolist() == [5]


class Stub:
    """A model whose log-probability of a reply is weight·(prompt's token + reply's token)."""

    def __init__(self, weight: float) -> None:
        self.weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        values = torch.tensor([[float(one.prompt_ids[0] + one.replies[0][0])] for one in groups])
        return TokenLogps(self.weight * values.double(), torch.ones(len(groups), 1, dtype=torch.bool))

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        raise NotImplementedError

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        return Work(distinct=len(groups), flops=3.0 * len(groups))


def objective(policy: Stub, loss: Kto) -> Unpaired:
    def reference(items: Sequence[TokenUnpaired]) -> TokenLogps:
        return TokenLogps(torch.zeros(len(items), 1), torch.ones(len(items), 1, dtype=torch.bool))

    return Unpaired(policy, loss, reference, max_length=64)


def test_the_baseline_is_the_mean_over_mismatched_replies_without_a_gradient() -> None:
    """Ratios at weight 1/100: own 1.00, 1.02, 1.04; crossed (0,102), (1,100), (2,101): 1.02, 1.01, 1.03."""
    policy = Stub(0.01)
    step = objective(policy, Kto(beta=1.0))(replies(3))
    assert float(step.metrics["kl"][0]) / 3 == pytest.approx(1.02)
    step.loss_sum.backward()
    slope = {n: torch.sigmoid(torch.tensor(0.01 * (100 + 2 * n) - 1.02)).item() for n in range(3)}
    signs = {0: -1, 1: 1, 2: -1}
    expected = sum(signs[n] * (100 + 2 * n) * slope[n] * (1 - slope[n]) for n in range(3))
    assert policy.weight.grad is not None
    assert float(policy.weight.grad) == pytest.approx(expected)


def test_rewards_are_counted_by_label() -> None:
    metrics = objective(Stub(0.01), Kto(beta=0.5))(replies(3)).metrics
    means = {name: float(total) / count for name, (total, count) in metrics.items()}
    assert means["rewards/chosen"] == pytest.approx(0.51)
    assert means["rewards/rejected"] == pytest.approx(0.51)
    assert means["rewards/margin"] == pytest.approx(0.0, abs=1e-12)
    assert means["logps/chosen"] == pytest.approx(1.02)


def test_a_batch_of_one_label_counts_nothing_of_the_other() -> None:
    good = [one for one in replies(6) if one.desirable]
    metrics = objective(Stub(0.01), Kto())(good).metrics
    assert metrics["rewards/rejected"][1] == metrics["logps/rejected"][1] == 0
    assert "rewards/margin" not in metrics


def test_mismatched_replies_cost_a_forward_pass_and_only_where_the_loss_asks() -> None:
    with_them = objective(Stub(0.01), Kto())(replies(4)).work
    without = objective(Stub(0.01), Kto(baseline="other_label"))(replies(4)).work
    assert without == Work(distinct=4, flops=12.0)
    assert with_them == Work(distinct=8, flops=16.0)
