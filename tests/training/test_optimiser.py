from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from align.settings import TrainingSettings
from align.training.optimiser import (
    build_optimiser,
    learning_rate,
    say_if_it_never_peaks,
    trainable_parameters,
)


def rates(total: int, warmup: int, schedule: str) -> list[float]:
    return [
        learning_rate(step, total, peak=1.0, warmup=warmup, schedule=schedule)  # type: ignore[arg-type]
        for step in range(1, total + 1)
    ]


def test_linear_falls_to_zero_just_after_the_last_step() -> None:
    assert rates(4, 0, "linear") == [1.0, 0.75, 0.5, 0.25]


def test_warm_up_rises_on_a_line_from_zero_and_meets_the_peak() -> None:
    """Zero before the first step, the peak at the first after three steps of warm-up."""
    assert rates(7, 3, "linear") == [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]


def test_constant_stays() -> None:
    assert rates(5, 1, "constant") == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_cosine_is_half_a_wave() -> None:
    """cos of 0, a quarter, a half and three quarters of pi, lifted to 0..1."""
    expected = [(1 + math.cos(math.pi * part)) / 2 for part in (0, 0.25, 0.5, 0.75)]
    assert rates(4, 0, "cosine") == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (5, 5), (5, 50), (30, 7)])
def test_no_step_is_spent_at_zero_or_above_the_peak(schedule: str, total: int, warmup: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(total, warmup, schedule))


@pytest.mark.medium
def test_without_warm_up_linear_and_cosine_are_those_of_transformers() -> None:
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    for schedule, published in (
        ("linear", get_linear_schedule_with_warmup),
        ("cosine", get_cosine_schedule_with_warmup),
    ):
        optimiser = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
        scheduler = published(optimiser, 0, 9)
        theirs = []
        for _ in range(9):
            theirs.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
        assert rates(9, 0, schedule) == pytest.approx(theirs, abs=1e-12)


def test_only_matrices_decay() -> None:
    """With zero gradients AdamW only decays: a matrix shrinks by 1 - lr * decay = 0.99, a vector stays."""
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2), nn.LayerNorm(2))
    parameters = trainable_parameters(model)
    optimiser = build_optimiser(parameters, TrainingSettings(learning_rate=0.1, weight_decay=0.1))
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in parameters.items():
        factor = 0.99 if name in ("0.weight", "1.weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_betas_reach_the_optimiser() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimiser = build_optimiser(trainable_parameters(model), TrainingSettings(adam_betas=(0.8, 0.95)))
    assert [group["betas"] for group in optimiser.param_groups] == [(0.8, 0.95)]


def test_tied_weights_are_trained_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert list(trainable_parameters(model)) == ["0.weight"]


def test_a_warm_up_that_takes_the_whole_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten steps of a warm-up of ten: the tenth is at 10/11 of the peak; an eleventh would be at the peak."""
    settings = TrainingSettings(learning_rate=0.011, warmup_steps=10)
    say_if_it_never_peaks(settings, 11)
    assert capsys.readouterr().out == ""
    say_if_it_never_peaks(settings, 10)
    said = capsys.readouterr().out
    assert "training.warmup_steps=10 takes all 10 steps" in said
    assert "0.01 instead of 0.011" in said
