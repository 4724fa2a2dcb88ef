from __future__ import annotations

import dataclasses
import random
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import SIX, Recorder, Regression, all_lines, fit, lines, make_model, same_bits, weights

from align.errors import (
    ConfigError,
    DataError,
    ModelError,
    NonFiniteError,
)
from align.settings import TrainingSettings
from align.tracking.metrics import CLOCK_KEYS, PHASES, ROLLOUT_PHASES
from align.training import checkpoints
from align.training.sampler import Sampler


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
