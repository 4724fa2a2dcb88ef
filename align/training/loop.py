"""The one training loop. What a step does is its course's to say: a batch of pairs, or an iteration of PPO.

A step is: take, look, log, save. What moves lies in ``Counters``, the course, the weights, the optimiser and
the global generators; all of it goes into every checkpoint, so that a resumed run continues with the same
bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import Module

from align.alarms.settings import AlarmSettings
from align.alarms.watch import Alarm
from align.distributed.agree import require_same
from align.distributed.device import compute_dtype
from align.distributed.engine import open_engine
from align.distributed.pulse import mark
from align.distributed.world import gathered, led, on_any, world
from align.errors import CheckpointError, ConfigError, Terminated
from align.models.recompute import recompute_activations
from align.run import Run
from align.settings import DeepspeedSettings, TrainingSettings
from align.tracking.metrics import MetricsFile, NoMetricsFile
from align.training import checkpoints
from align.training.between import Job, checkpoints_of, log, look, save, save_is_due, stopped, take_best
from align.training.checkpoints import Checkpoint
from align.training.course import Course
from align.training.determinism import generators_kept, seed_everything, seed_of
from align.training.fingerprint import ROUNDING, fingerprint_of, refuse_misfit
from align.training.freezing import thawing
from align.training.guards import memory_explained
from align.training.optimiser import (
    build_optimiser,
    learning_rate,
    say_if_it_never_peaks,
    trainable_parameters,
)
from align.training.progress import progress
from align.training.signals import sigterm_noted
from align.training.state import Counters, Trained, restore
from align.training.throughput import PhaseClock, new_memory_peak, peak_flops
from align.training.update import Taken


@dataclass(frozen=True)
class TrainSummary:
    """What became of a training."""

    steps: int
    """Optimiser steps taken, over all sittings."""
    epochs: float
    """Passes over the items."""
    seconds: float
    """Time spent, over all sittings."""
    metrics: Mapping[str, float]
    """The last line of ``metrics.jsonl``: loss and the objective's own, as means over its interval."""
    best_value: float | None
    """The best validation value; None where nobody looked."""
    best_step: int | None
    """Its step. With early stopping, the model's weights are now those of this step."""
    stopped_early: bool
    resumed_from: int | None
    """The step of the checkpoint that this sitting began from."""
    alarms: Mapping[str, int]
    """How often each alarm was raised, of those that were."""
    watched: int
    """Lines that held something to watch."""


def train(
    *,
    run: Run,
    settings: TrainingSettings,
    model: Module,
    course: Course,
    alarms: AlarmSettings,
    validate: Callable[[], float] | None = None,
    device: torch.device,
    deepspeed: DeepspeedSettings | None = None,
    fingerprint: Mapping[str, str] | None = None,
) -> TrainSummary:
    """Trains what is trainable of a model, from the start or from the newest whole checkpoint.

    The model is left on ``device`` in eval mode, with its last weights, or the best with early stopping.
    ``metrics.jsonl`` and ``checkpoints/`` in the run's directory are written here; the tracker mirrors it.
    Of several ranks each calls it, with the same arguments; rank 0 writes.

    Args:
        run: directory, seed, tracker, and whether to resume.
        course: what each step does, and how many there are.
        alarms: what each line of metrics is watched for.
        validate: a value to make as large as it gets; called in eval mode, without gradients, and whatever it
            draws leaves training untouched. Every rank holds all weights then, and returns the same value.
        deepspeed: what each rank holds; none holds everything.
        fingerprint: what else must be the same for a checkpoint to fit (hashes of data, loss, reference).

    Raises:
        NonFiniteError: a loss, metric, gradient or weight is NaN or infinite; the run stops at that step.
        OutOfMemoryError: says which settings to lower.
        CheckpointError: no checkpoint is whole; it is of another run; there is one and ``resume`` is false.
        AlarmError: an alarm under ``alarms=stop``; the step was finished and saved.
        Terminated: SIGTERM arrived; the step was finished and saved.
        ConfigError, ModelError: early stopping without validation, nothing to train.
    """
    if settings.early_stopping is not None and validate is None:
        raise ConfigError(
            "training.early_stopping needs a validation split: set dataset.validation_fraction above 0, "
            "or training.early_stopping=none"
        )
    seed_everything(seed_of(world().rank, run.seed))
    deepspeed = deepspeed or DeepspeedSettings()
    with memory_explained(settings):
        parameters = trainable_parameters(model.to(device))
        identity = fingerprint_of(
            settings=settings,
            seed=run.seed,
            stage=run.stage_name,
            total_steps=course.total,
            items=course.items,
            parameters=parameters,
            device=device,
            deepspeed=deepspeed,
            more=fingerprint or {},
        )
        optimiser = build_optimiser(parameters, settings)
        with generators_kept(device):
            engine = open_engine(model, parameters, optimiser, deepspeed, settings.max_grad_norm)
        trained = Trained(model, parameters, engine, device)
        require_same(lambda: {name: value for name, value in identity.items() if name not in ROUNDING})
        say_if_it_never_peaks(settings, course.total)
        counters = _begin(run, trained, course, identity)
        begun_at = counters.step
        thaw = thawing(parameters, model, settings.unfreeze_every, course.total)
        peak = sum(gathered(peak_flops(device, compute_dtype(settings.precision, device))))
        clock = PhaseClock(device, counters.phases)
        job = Job(
            run=run,
            settings=settings,
            trained=trained,
            course=course,
            alarms=alarms,
            validate=validate,
            identity=identity,
            counters=counters,
            clock=clock,
            peak=peak,
            thaw=thaw,
        )
        if settings.gradient_checkpointing:
            recompute_activations(model)
        model.train()
        new_memory_peak(device)
        _run_steps(job)
        model.eval()
        take_best(job)
        engine.close()
    return _summary(job, begun_at)


def _begin(run: Run, trained: Trained, course: Course, identity: Mapping[str, str]) -> Counters:
    """From the newest whole checkpoint where there is one, else from nothing."""
    folder = checkpoints_of(run)
    if not run.resume and checkpoints.steps_in(folder):
        raise CheckpointError(
            f"{folder} holds checkpoints of an earlier training: resume=true continues it, "
            f"another run.dir starts a new one"
        )
    checkpoint = _newest(folder)
    if checkpoint is None:
        return Counters()
    refuse_misfit(checkpoint.state["fingerprint"], identity, checkpoint.step)
    if checkpoint.step > course.total:
        raise CheckpointError(
            f"the checkpoint is of step {checkpoint.step}, and this run ends at step {course.total}: "
            f"raise training.max_steps (or epochs), or start anew in another run.dir"
        )
    course.restore(checkpoint.state["course"])
    return restore(checkpoint, trained)


def _newest(folder: Path) -> Checkpoint | None:
    """Rank 0 looks which one is whole; the others read the same."""
    found: list[Checkpoint] = []

    def find() -> int | None:
        found.extend(one for one in (checkpoints.newest(folder),) if one is not None)
        return found[0].step if found else None

    step = led(find)
    if step is None:
        return None
    return found[0] if found else checkpoints.read(checkpoints.folder_of(folder, step))


def _run_steps(job: Job) -> None:
    run, settings, counters = job.run, job.settings, job.counters
    with (
        sigterm_noted() as terminated,
        _metrics_file(run.directory / "metrics.jsonl", counters.step) as metrics,
        progress(run.stage_name, job.course.total, counters.step) as show,
    ):
        began = time.monotonic() - counters.seconds
        while not job.finished():
            counters.step += 1
            mark(f"{run.stage_name}, step {counters.step} of {job.course.total}")
            rate = _take_step(job)
            value = look(job)
            counters.seconds = time.monotonic() - began
            alarms: list[Alarm] = []
            if value is not None or job.finished() or counters.step % settings.log_every == 0:
                alarms = log(job, metrics, rate, value)
            stop, fatal = on_any(terminated()), [alarm for alarm in alarms if alarm.stops]
            if stop or fatal or job.finished() or save_is_due(job, looked=value is not None):
                metrics.sync()
                save(job)
            show(counters.step, counters.line)
            if fatal:  # before SIGTERM: a scheduler that starts the run again would take it past its alarm
                raise stopped(job, fatal[0])
            if stop:
                raise Terminated(
                    f"SIGTERM: step {counters.step} of {job.course.total} is finished and saved in "
                    f"{checkpoints_of(run)}; the same command with resume=true goes on from there"
                )


def _metrics_file(path: Path, after_step: int) -> MetricsFile | NoMetricsFile:
    return MetricsFile(path, after_step=after_step) if world().leads else NoMetricsFile()


def _take_step(job: Job) -> float:
    """Takes one step of the course; returns the learning rate."""
    settings, counters = job.settings, job.counters
    job.clock.start()
    job.thaw(counters.step)
    rate = learning_rate(
        counters.step,
        job.course.total,
        peak=settings.learning_rate,
        warmup=settings.warmup_steps,
        schedule=settings.schedule,
    )
    for group in job.trained.engine.optimiser.param_groups:
        group["lr"] = rate
    taken = job.course.take(counters.step, job.trained, job.clock.lap)
    _count(counters, taken)
    return rate


def _count(counters: Counters, taken: Taken) -> None:
    for name, (value, count) in taken.metrics.items():
        counters.meter.add(name, value, count)
    if taken.work is not None:
        counters.work += taken.work
        counters.tokens += taken.work.distinct


def _summary(job: Job, begun_at: int) -> TrainSummary:
    counters = job.counters
    return TrainSummary(
        steps=counters.step,
        epochs=counters.step * job.settings.batch_size / job.course.items,
        seconds=counters.seconds,
        metrics=counters.line,
        best_value=counters.best.value,
        best_step=counters.best.step,
        stopped_early=counters.step < job.course.total,
        resumed_from=begun_at or None,
        alarms=counters.watch.counts(),
        watched=counters.watch.lines,
    )
