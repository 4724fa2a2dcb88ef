from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import Recorder, Regression, fit, lines, make_items, make_model, same_bits, weights

from align.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    Terminated,
)
from align.report.files import read_metrics
from align.settings import TrainingSettings
from align.tracking.metrics import CLOCK_KEYS, PHASES, ROLLOUT_PHASES, MetricsFile
from align.training import checkpoints
from align.training.sampler import Sampler

SIX = TrainingSettings(max_steps=6, batch_size=8, log_every=1, save_every=2, learning_rate=0.05)


def plain_model() -> nn.Module:
    """Without batch norm, which couples a batch, and dropout, which draws per pass."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def test_it_learns(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=40, batch_size=8, learning_rate=0.05, log_every=10)
    summary = fit(tmp_path, settings=settings, model=(model := plain_model()))
    trace = [line["loss"] for line in lines(tmp_path)]
    assert summary.steps == 120  # 40 epochs of 24 items in batches of 8
    assert summary.epochs == 40.0
    assert [line["step"] for line in lines(tmp_path)] == list(range(10, 121, 10))
    assert trace[-1] < 0.25 * trace[0]
    assert not model.training


def test_the_same_command_twice_gives_the_same_bits(tmp_path: Path) -> None:
    models = make_model(), make_model()
    for name, model in zip("ab", models, strict=True):
        random.random(), np.random.rand(), torch.rand(1)  # what came before does not matter
        fit(tmp_path / name, settings=SIX, model=model)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert same_bits(weights(models[0]), weights(models[1]))


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    fit(tmp_path / "a", settings=SIX)
    fit(tmp_path / "b", settings=SIX, seed=8)
    assert lines(tmp_path / "a") != lines(tmp_path / "b")


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_the_split_into_micro_batches_changes_nothing(tmp_path: Path, micro: int, uneven: bool) -> None:
    """8x1, 4x2, 2x4 trace 1x8 to 1e-5, also where items weigh unevenly (replies of unequal length)."""
    traces = []
    for size in (8, micro):
        model = plain_model()
        settings = dataclasses.replace(SIX, max_steps=20, micro_batch_size=size)
        fit(tmp_path / str(size), settings=settings, model=model, objective=Regression(model, uneven=uneven))
        traces.append([(line["loss"], line["grad_norm"]) for line in lines(tmp_path / str(size))])
    assert len(traces[0]) == 20
    np.testing.assert_allclose(traces[0], traces[1], rtol=1e-5)


def test_loss_is_the_mean_over_what_was_counted_since_the_last_line(tmp_path: Path) -> None:
    """log_every=3: the third step's line holds the mean of the three losses of a run that logs each."""
    fit(tmp_path / "each", settings=SIX)
    fit(tmp_path / "third", settings=dataclasses.replace(SIX, log_every=3))
    each = [line["loss"] for line in lines(tmp_path / "each")]
    third = [line["loss"] for line in lines(tmp_path / "third")]
    assert third == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3], rel=1e-12)


def test_a_line_holds_what_a_reader_needs(tmp_path: Path) -> None:
    tracker = Recorder()
    fit(tmp_path, settings=dataclasses.replace(SIX, schedule="linear"), tracker=tracker)
    first = next(iter(all_lines(tmp_path)))
    assert list(first) == [
        "step",
        "epoch",
        "time",
        "learning_rate",
        "loss",
        "grad_norm",
        "error",
        "tokens",
        "examples_per_second",
        "tokens_per_second",
        "tokens_per_second/total",
        "fill_rate",
        "flops_per_second",
        "mfu",
        "time_share/data",
        "time_share/forward",
        "time_share/backward",
        "time_share/optimiser",
        "memory_peak_mb",
    ]
    assert set(first) >= CLOCK_KEYS - {f"time_share/{phase}" for phase in ROLLOUT_PHASES}
    assert (first["step"], first["epoch"], first["tokens"]) == (1, 8 / 24, 16)
    assert first["learning_rate"] == 0.05
    assert [step for step, _ in tracker.logged] == [1, 2, 3, 4, 5, 6]
    assert tracker.logged[0][1] == {name: value for name, value in first.items() if name != "step"}


def test_throughput_is_counted_since_the_last_line(tmp_path: Path) -> None:
    """log_every=3: 24 items, so 48 distinct tokens, 72 given and computed, 24e6 operations. An epoch of
    the items 0 ... 23 has 8 each of remainder 0, 1 and 2: 72 + 8 + 16 = 96 positions."""
    fit(tmp_path, settings=dataclasses.replace(SIX, log_every=3))
    for line in all_lines(tmp_path):
        seconds = 24 / line["examples_per_second"]
        assert line["tokens_per_second"] == pytest.approx(48 / seconds)
        assert line["tokens_per_second/total"] == pytest.approx(72 / seconds)
        assert line["flops_per_second"] == pytest.approx(24e6 / seconds)
        assert line["fill_rate"] == 72 / 96
        assert sum(line[f"time_share/{phase}"] for phase in PHASES) == pytest.approx(1.0)


def test_looking_and_saving_do_not_dilute_throughput(tmp_path: Path) -> None:
    """A look that takes 0.1 s after each step of 8 items would leave at most 80 a second."""
    settings = dataclasses.replace(SIX, eval_every=1, save_every=1)
    fit(tmp_path, settings=settings, validate=lambda: time.sleep(0.1) or 0.5)
    found = all_lines(tmp_path)
    assert found[-1]["time"] > 0.6
    assert statistics.median(line["examples_per_second"] for line in found) > 80


def test_an_objective_that_counts_nothing_logs_no_tokens(tmp_path: Path) -> None:
    model = plain_model()
    objective = Regression(model)
    objective.work = lambda items: None  # type: ignore[assignment, method-assign, return-value]
    fit(tmp_path, settings=SIX, model=model, objective=objective)
    for line in all_lines(tmp_path):
        assert line["examples_per_second"] > 0
        assert not [name for name in line if "token" in name or "flops" in name or name == "mfu"]


def all_lines(directory: Path) -> list[dict[str, float]]:
    return list(read_metrics(directory / "metrics.jsonl"))


def test_items_are_drawn_as_the_sampler_says(tmp_path: Path) -> None:
    model = make_model()
    objective = Regression(model)
    fit(tmp_path, settings=dataclasses.replace(SIX, micro_batch_size=4), model=model, objective=objective)
    steps = [
        first + second for first, second in zip(objective.calls[::2], objective.calls[1::2], strict=True)
    ]
    assert steps == [Sampler(7, 8, 24).batch(step) for step in range(1, 7)]


def test_only_what_is_trainable_moves(tmp_path: Path) -> None:
    model = make_model()
    model[0].requires_grad_(False)
    before = weights(model)
    fit(tmp_path, settings=SIX, model=model)
    after = weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "4.weight",
        "4.bias",
    }
    saved = checkpoints.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert set(saved.tensors["weights"]) == moved


def test_a_frozen_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no trainable parameter"):
        fit(tmp_path, model=make_model().requires_grad_(False))


def test_no_items_are_refused(tmp_path: Path) -> None:
    class Nothing(list):  # type: ignore[type-arg]
        def __bool__(self) -> bool:
            return True

    with pytest.raises(DataError, match="nothing to train on"):
        fit(tmp_path, items=Nothing())


def test_a_batch_in_which_nothing_counts_is_refused(tmp_path: Path) -> None:
    model = make_model()
    objective = Regression(model)
    objective.weight = lambda items: 0.0  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"step 1: nothing counts.*item-"):
        fit(tmp_path, model=model, objective=objective)


def test_recomputing_activations_needs_a_model_that_can(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gradient_checkpointing=false"):
        fit(tmp_path, settings=dataclasses.replace(SIX, gradient_checkpointing=True))


# Looks, early stopping


def test_looks_come_at_epoch_ends_and_at_the_last_step(tmp_path: Path) -> None:
    """24 items in batches of 8: an epoch ends at steps 3 and 6; 7 is the last."""
    settings = dataclasses.replace(SIX, max_steps=7, log_every=100)
    fit(tmp_path, settings=settings, validate=lambda: 0.25)
    assert [(line["step"], line["validation"]) for line in lines(tmp_path)] == [
        (3, 0.25),
        (6, 0.25),
        (7, 0.25),
    ]


def test_looking_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    seen = []
    model = make_model()

    def look() -> float:
        seen.append((model.training, torch.is_grad_enabled()))
        return float(torch.rand(1) + np.random.rand() + random.random())

    fit(tmp_path / "looks", settings=dataclasses.replace(SIX, eval_every=1), model=model, validate=look)
    fit(tmp_path / "blind", settings=SIX, model=(blind := make_model()))
    assert seen == [(False, False)] * 6
    assert same_bits(weights(model), weights(blind))


def test_early_stopping_takes_the_best_weights(tmp_path: Path) -> None:
    """Values 1 3 2 2 at steps 1-4 and a patience of two: it stops at step 4 with the weights of step 2."""
    values = iter([1.0, 3.0, 2.0, 2.0])
    settings = dataclasses.replace(SIX, eval_every=1, early_stopping=2, save_every=None)
    model = make_model()
    history = []

    def look() -> float:
        history.append(weights(model))
        return next(values)

    summary = fit(tmp_path, settings=settings, model=model, validate=look)
    assert (summary.steps, summary.best_step, summary.best_value) == (4, 2, 3.0)
    assert summary.stopped_early
    assert same_bits(weights(model), history[1])
    assert checkpoints.steps_in(tmp_path / "checkpoints") == [2, 4]

    resumed = make_model()
    again = fit(tmp_path, settings=settings, model=resumed, validate=look, resume=True)
    assert same_bits(weights(resumed), history[1])
    assert dataclasses.replace(again, resumed_from=None) == summary


def test_early_stopping_without_a_look_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="early_stopping needs a validation split"):
        fit(tmp_path, settings=dataclasses.replace(SIX, early_stopping=1))


def test_a_validation_value_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="validation is nan at step 3"):
        fit(tmp_path, settings=SIX, validate=lambda: float("nan"))


# Resuming


@pytest.mark.parametrize("kept_until", [2, 4, 6])
def test_a_resumed_run_traces_an_unbroken_one(tmp_path: Path, kept_until: int) -> None:
    """With dropout, batch norm, decay, accumulation, early stopping and half-filled metric intervals."""
    settings = TrainingSettings(
        max_steps=9,
        batch_size=8,
        micro_batch_size=4,
        learning_rate=0.05,
        weight_decay=0.1,
        warmup_steps=3,
        schedule="cosine",
        log_every=3,
        save_every=2,
        keep_checkpoints=9,
        early_stopping=50,
    )

    def look_at(model: nn.Module) -> float:
        return -float(Regression(model)(make_items()).loss_sum)

    whole = make_model()
    unbroken = fit(tmp_path / "whole", settings=settings, model=whole, validate=lambda: look_at(whole))
    first = make_model()
    fit(tmp_path / "broken", settings=settings, model=first, validate=lambda: look_at(first))
    # What a kill leaves: checkpoints up to a step, and lines beyond it.
    folder = tmp_path / "broken" / "checkpoints"
    for step in checkpoints.steps_in(folder):
        if step > kept_until:
            shutil.rmtree(checkpoints.folder_of(folder, step))
    torch.rand(3), random.random(), np.random.rand()
    second = make_model(dropout=0.3)
    with torch.no_grad():
        second[0].weight.fill_(123.0)
    summary = fit(
        tmp_path / "broken", settings=settings, model=second, validate=lambda: look_at(second), resume=True
    )
    assert summary.resumed_from == kept_until
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert same_bits(weights(second), weights(whole))
    assert (summary.best_step, summary.best_value) == (unbroken.best_step, unbroken.best_value)


def test_a_best_step_that_nobody_saved_is_not_missed(tmp_path: Path) -> None:
    """Without early stopping no checkpoint is kept for having been best: step 2 was, 3 and 4 are on disk."""
    settings = TrainingSettings(
        max_steps=4, batch_size=8, log_every=1, eval_every=1, save_every=3, schedule="constant"
    )
    values = iter([0.1, 0.9, 0.3, 0.2, 0.5, 0.4])

    def look() -> float:
        return next(values)

    first = fit(tmp_path, settings=settings, validate=look)
    assert (first.best_step, checkpoints.steps_in(tmp_path / "checkpoints")) == (2, [3, 4])
    longer = dataclasses.replace(settings, max_steps=6)
    again = fit(tmp_path, settings=longer, validate=look, resume=True)
    assert (again.resumed_from, again.best_step, again.best_value) == (4, 2, 0.9)


def test_time_and_tokens_go_on_over_sittings(tmp_path: Path) -> None:
    half = dataclasses.replace(SIX, max_steps=4, schedule="constant")
    first = fit(tmp_path, settings=half)
    second = fit(tmp_path, settings=dataclasses.replace(half, max_steps=8), resume=True)
    kept = all_lines(tmp_path)
    assert [line["tokens"] for line in kept] == [16 * step for step in range(1, 9)]
    assert all(one["time"] < other["time"] for one, other in itertools.pairwise(kept))
    assert second.seconds > first.seconds
    assert second.resumed_from == 4


def test_lines_reach_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    sync, write = MetricsFile.sync, checkpoints.write
    monkeypatch.setattr(MetricsFile, "sync", lambda self: (order.append("lines"), sync(self)))
    monkeypatch.setattr(checkpoints, "write", lambda *a, **k: (order.append("checkpoint"), write(*a, **k)))
    fit(tmp_path, settings=SIX)
    assert order == ["lines", "checkpoint"] * 3


def test_resume_without_a_checkpoint_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n{"st')
    summary = fit(tmp_path, settings=SIX, resume=True)
    assert summary.resumed_from is None
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_without_resume_an_earlier_training_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, settings=SIX)
    with pytest.raises(CheckpointError, match="resume=true"):
        fit(tmp_path, settings=SIX)
    assert len(lines(tmp_path)) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"settings": dataclasses.replace(SIX, batch_size=4)}, "training.batch_size was 8, now 4"),
        (
            {"settings": dataclasses.replace(SIX, learning_rate=0.1)},
            "training.learning_rate was 0.05, now 0.1",
        ),
        ({"settings": dataclasses.replace(SIX, max_steps=12)}, "steps was 6, now 12"),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"items": make_items(23)}, "training examples was 24, now 23"),
        ({"fingerprint": {"dataset": "abc"}}, "dataset was unset, now abc"),
        ({"model": nn.Linear(2, 1)}, "trainable parameters was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    fit(tmp_path, settings=SIX)
    with pytest.raises(CheckpointError, match=f"step 6 does not fit this run:\n  .*{told}"):
        fit(tmp_path, **{"settings": SIX, "resume": True, **change})  # type: ignore[arg-type]


def test_smaller_micro_batches_may_continue_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After running out of memory one lowers training.micro_batch_size, and goes on."""
    fit(tmp_path, settings=dataclasses.replace(SIX, schedule="constant"))
    longer = dataclasses.replace(SIX, schedule="constant", max_steps=8, micro_batch_size=2)
    assert fit(tmp_path, settings=longer, resume=True).resumed_from == 6
    assert "not bit for bit: training.micro_batch_size was 8, now 2" in caplog.text


def test_another_precision_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, settings=dataclasses.replace(SIX, precision="float32"))
    other = dataclasses.replace(SIX, precision="bfloat16")
    with pytest.raises(CheckpointError, match=r"training\.precision was float32, now bfloat16\nResume"):
        fit(tmp_path, settings=other, resume=True)


def test_a_checkpoint_past_the_end_is_refused(tmp_path: Path) -> None:
    constant = dataclasses.replace(SIX, schedule="constant")
    fit(tmp_path, settings=constant)
    with pytest.raises(CheckpointError, match="is of step 6, and this run ends at step 4"):
        fit(tmp_path, settings=dataclasses.replace(constant, max_steps=4), resume=True)


# Stopping


def test_sigterm_finishes_the_step_and_saves(tmp_path: Path) -> None:
    model = make_model()
    objective = Regression(model)

    def scale(items: object) -> float:
        if len(objective.calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    objective.scale = scale
    settings = dataclasses.replace(SIX, save_every=None)
    with pytest.raises(Terminated, match="step 3 of 6 is finished and saved") as stopped:
        fit(tmp_path / "broken", settings=settings, model=model, objective=objective)
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert checkpoints.steps_in(tmp_path / "broken" / "checkpoints") == [3]

    fit(tmp_path / "broken", settings=settings, resume=True)
    fit(tmp_path / "whole", settings=settings)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")


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
