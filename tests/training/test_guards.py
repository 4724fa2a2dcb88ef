from __future__ import annotations

import pytest
import torch
from torch import nn

from align.errors import NonFiniteError
from align.training.guards import (
    nonfinite_names,
    require_finite,
    require_finite_gradients,
    require_finite_scores,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_number_that_is_not_finite_is_named_with_step_and_batch(value: float) -> None:
    with pytest.raises(NonFiniteError, match=rf"^loss is {value} at step 12; batch: a, b\.$"):
        require_finite("loss", value, step=12, ids=["a", "b"])


def test_a_finite_number_passes() -> None:
    require_finite("loss", 1e300, step=12, ids=["a", "b"])


def test_long_batches_are_cut_in_the_message() -> None:
    with pytest.raises(NonFiniteError, match=r"batch: item-0, .*, item-31 and 468 more\.$"):
        require_finite("loss", NAN, step=1, ids=[f"item-{number}" for number in range(500)])


def test_only_the_scored_items_at_fault_are_named() -> None:
    with pytest.raises(NonFiniteError, match=r"^score is nan at scoring; batch: b, d\.$"):
        require_finite_scores([0.0, NAN, 1.0, INF], ["a", "b", "c", "d"])
    require_finite_scores([0.0, -3.5], ["a", "b"])


def test_gradients_at_fault_are_named() -> None:
    parameters = {name: nn.Parameter(torch.zeros(2)) for name in ("fine", "bad", "unused", "worse")}
    parameters["fine"].grad = torch.tensor([1.0, 2.0])
    parameters["bad"].grad = torch.tensor([NAN, 2.0])
    parameters["worse"].grad = torch.tensor([0.0, -INF])
    with pytest.raises(NonFiniteError, match=r"^gradient of bad, worse is nan at step 3; batch: a"):
        require_finite_gradients(parameters, NAN, step=3, ids=["a"])


def test_a_norm_that_overflows_says_so() -> None:
    """Two finite gradients of 3e38 have a norm above what float32 holds."""
    parameters = {"w": nn.Parameter(torch.zeros(2))}
    parameters["w"].grad = torch.full((2,), 3e38)
    with pytest.raises(NonFiniteError, match=r"global norm of the \(finite\) gradients is inf"):
        require_finite_gradients(parameters, INF, step=3, ids=["a"])


def test_where_no_rank_holds_a_whole_gradient_none_is_named_nor_called_finite() -> None:
    with pytest.raises(NonFiniteError, match=r"^global norm of the gradients is nan at step 3; batch: a"):
        require_finite_gradients({"w": nn.Parameter(torch.zeros(2))}, NAN, step=3, ids=["a"])


def test_whole_numbers_are_finite() -> None:
    assert nonfinite_names(
        [("ids", torch.arange(3)), ("nan", torch.tensor(NAN)), ("one", torch.ones(1))]
    ) == ["nan"]
