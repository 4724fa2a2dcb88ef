"""What a training goes on from, and what it refuses to."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import SIX, Regression, all_lines, fit, lines, make_items, make_model, same_bits, weights

from align.errors import CheckpointError, Terminated
from align.settings import TrainingSettings
from align.tracking.metrics import MetricsFile
from align.training import checkpoints


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
