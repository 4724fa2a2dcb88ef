"""A regression that trains in milliseconds, and the arguments to train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.alarms.settings import AlarmSettings
from align.report.files import read_metrics
from align.run import Run
from align.settings import TrainingSettings
from align.tensors import Work
from align.tracking.metrics import CLOCK_KEYS
from align.tracking.none import NoTracker
from align.training.course import Batches
from align.training.loop import TrainSummary, train
from align.training.update import Step

CPU = torch.device("cpu")
SIX = TrainingSettings(max_steps=6, batch_size=8, log_every=1, save_every=2, learning_rate=0.05)


def make_items(count: int = 24) -> list[int]:
    """Item i stands for the input (i / 24, (i / 24) squared) and a target that is not linear in it."""
    return list(range(count))


def make_model(dropout: float = 0.3) -> nn.Module:
    """A small network with the kinds of parameter and buffer that differ in treatment; fixed weights."""
    torch.manual_seed(99)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


@dataclass
class Regression:
    """Squared error; an item weighs 1, or ``1 + item % 3`` where ``uneven`` (as replies differ in tokens)."""

    model: nn.Module
    uneven: bool = False
    scale: Callable[[Sequence[int]], float] = lambda items: 1.0
    calls: list[list[int]] = field(default_factory=list)

    def weight(self, items: Sequence[int]) -> float:
        return float(sum(1 + item % 3 for item in items)) if self.uneven else float(len(items))

    def work(self, items: Sequence[int]) -> Work:
        """Two distinct tokens an item, three computed, and as many of padding as it says: 0, 1 or 2."""
        count = len(items)
        slots = 3 * count + sum(item % 3 for item in items)
        return Work(distinct=2 * count, total=3 * count, computed=3 * count, slots=slots, flops=1e6 * count)

    def __call__(self, items: Sequence[int]) -> Step:
        self.calls.append(list(items))
        x = torch.tensor([[item / 24, (item / 24) ** 2] for item in items])
        target = torch.sin(x.sum(-1) * 3)
        errors = (self.model(x).squeeze(-1) - target) ** 2
        units = torch.tensor([1.0 + item % 3 for item in items]) if self.uneven else torch.ones(len(items))
        return Step(
            loss_sum=(errors * units).sum() * self.scale(items),
            metrics={"error": (errors.detach().abs().sum(), len(items))},
            work=self.work(items),
        )


class Recorder(NoTracker):
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, Mapping[str, float]]]
        object.__setattr__(self, "logged", [])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))


def make_run(directory: Path, *, resume: bool = False, seed: int = 7, tracker: Any = None) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    return Run(directory, None, "toy", seed, resume, tracker or NoTracker())  # type: ignore[arg-type]


def fit(
    directory: Path,
    *,
    settings: TrainingSettings | None = None,
    resume: bool = False,
    model: nn.Module | None = None,
    objective: Any = None,
    **more: Any,
) -> TrainSummary:
    """``train`` on the regression, with what a test does not care about filled in."""
    model = model if model is not None else make_model()
    run = make_run(directory, resume=resume, **{k: more.pop(k) for k in ("seed", "tracker") if k in more})
    settings = settings or TrainingSettings(max_steps=6, batch_size=8, log_every=1)
    items = more.pop("items", None)
    return train(
        run=run,
        settings=settings,
        model=model,
        course=Batches(
            objective or Regression(model),
            make_items() if items is None else items,
            lambda item: f"item-{item}",
            settings,
            run.seed,
        ),
        alarms=more.pop("alarms", AlarmSettings()),
        device=CPU,
        **more,
    )


def all_lines(directory: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl``."""
    return list(read_metrics(directory / "metrics.jsonl"))


def lines(directory: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl`` without what a clock decides."""
    return [
        {name: value for name, value in line.items() if name not in CLOCK_KEYS}
        for line in all_lines(directory)
    ]


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
