"""What stops a training on purpose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_training import SIX, Regression, fit, lines, make_model, weights

from align.errors import NonFiniteError, OutOfMemoryError
from align.training import checkpoints
from align.training.sampler import Sampler


def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path: Path) -> None:
    model = make_model()
    before = []

    def scale(items: list[int]) -> float:
        before.append(weights(model))
        return float("nan") if 5 in items else 1.0

    objective = Regression(model, scale=scale)  # type: ignore[arg-type]
    guilty = next(step for step in range(1, 4) if 5 in Sampler(7, 8, 24).batch(step))
    settings = dataclasses.replace(SIX, micro_batch_size=2, save_every=1)
    with pytest.raises(NonFiniteError, match=rf"loss is nan at step {guilty}; batch: .*item-5\b") as error:
        fit(tmp_path, settings=settings, model=model, objective=objective)
    assert str(error.value).count("item-") == 2  # the micro-batch, not the whole batch
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, guilty))
    assert checkpoints.steps_in(tmp_path / "checkpoints") == list(range(1, guilty))[-2:]


def test_a_gradient_that_is_not_finite_names_the_parameter(tmp_path: Path) -> None:
    """sqrt at 0 has a finite value and an infinite slope."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Parameter(torch.ones(()))
            self.flat = nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * self.fine + torch.sqrt(self.flat)

    model = Root()
    with pytest.raises(NonFiniteError, match=r"gradient of flat is (inf|nan) at step 1; batch: item-"):
        fit(tmp_path, model=model)
    assert model.fine.item() == 1.0
    assert checkpoints.steps_in(tmp_path / "checkpoints") == []


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model[4].bias.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match=r"loss is inf at step 1.*in the model: 4\.bias"):
        fit(tmp_path, model=model)


def test_no_checkpoint_holds_a_nan(tmp_path: Path) -> None:
    """A buffer that no loss depends on turns NaN at step 3; the checkpoints of steps 1 and 2 stay."""
    model = make_model()
    model.register_buffer("counter", torch.zeros(2))
    objective = Regression(model)

    def scale(items: object) -> float:
        if len(objective.calls) == 3:
            model.counter[1] = float("nan")
        return 1.0

    objective.scale = scale
    with pytest.raises(NonFiniteError, match="not finite after step 3: counter"):
        fit(tmp_path, settings=dataclasses.replace(SIX, save_every=1), model=model, objective=objective)
    assert checkpoints.steps_in(tmp_path / "checkpoints") == [1, 2]


def test_a_metric_that_is_not_finite_stops(tmp_path: Path) -> None:
    model = make_model()
    objective = Regression(model)

    class Bad(Regression):
        def __call__(self, items):  # type: ignore[no-untyped-def]
            step = super().__call__(items)
            return dataclasses.replace(step, metrics={"rewards/chosen": (torch.tensor(float("nan")), 8)})

    with pytest.raises(NonFiniteError, match="rewards/chosen is nan at step 1"):
        fit(tmp_path, model=model, objective=Bad(**vars(objective)))


@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("not enough memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_lower(tmp_path: Path, raised: Exception) -> None:
    class Greedy(Regression):
        def __call__(self, items):  # type: ignore[no-untyped-def]
            raise raised

    model = make_model()
    with pytest.raises(OutOfMemoryError) as error:
        fit(tmp_path, model=model, objective=Greedy(model))
    for setting in (
        "training.micro_batch_size=8",
        "model.max_length",
        "training.gradient_checkpointing=true",
    ):
        assert setting in str(error.value)


def test_another_error_passes_unchanged(tmp_path: Path) -> None:
    class Broken(Regression):
        def __call__(self, items):  # type: ignore[no-untyped-def]
            raise RuntimeError("shapes do not match")

    model = make_model()
    with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
        fit(tmp_path, model=model, objective=Broken(model))
