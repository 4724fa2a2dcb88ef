"""What happens between the steps of a training: looks at the validation split, lines, checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from align.alarms.settings import AlarmSettings
from align.alarms.watch import Alarm
from align.distributed.world import gathered, led, world
from align.errors import AlarmError
from align.run import Run
from align.settings import TrainingSettings
from align.tensors import Work
from align.tracking.metrics import MetricsFile, NoMetricsFile
from align.training import checkpoints
from align.training.course import Course
from align.training.determinism import generators_kept
from align.training.guards import require_finite
from align.training.sampler import ends_epoch
from align.training.state import Counters, Trained, capture, restore_weights
from align.training.throughput import PhaseClock, memory_peak_mb, throughput


@dataclass(frozen=True)
class Job:
    """The arguments of ``train`` and what was derived from them."""

    run: Run
    settings: TrainingSettings
    trained: Trained
    course: Course
    alarms: AlarmSettings
    validate: Callable[[], float] | None
    identity: Mapping[str, str]
    counters: Counters
    clock: PhaseClock
    peak: float
    thaw: Callable[[int], None]
    """Told each step before it is taken."""

    def finished(self) -> bool:
        """Whether the last step is taken, or patience is at its end."""
        return self.counters.step >= self.course.total or self.counters.best.exhausted(
            self.settings.early_stopping
        )


def save(job: Job) -> None:
    """Writes a checkpoint; all ranks call it."""
    settings, counters = job.settings, job.counters
    needed = counters.best.step if settings.early_stopping is not None else None
    checkpoint = capture(job.trained, counters, job.course.state(), job.identity, needed)
    led(lambda: checkpoints.write(checkpoints_of(job.run), checkpoint, keep=settings.keep_checkpoints))


def look(job: Job) -> float | None:
    """The validation value, where it is time to look: every so often, at an epoch's end, at the last step."""
    settings, counters = job.settings, job.counters
    if job.validate is None:
        return None
    if settings.eval_every is None:
        due = ends_epoch(counters.step, settings.batch_size, job.course.items)
    else:
        due = counters.step % settings.eval_every == 0
    if not due and counters.step < job.course.total:
        return None
    model = job.trained.model
    with generators_kept(job.trained.device), job.trained.engine.whole(), torch.no_grad():
        model.eval()
        value = float(job.validate())
        model.train()
    require_finite("validation", value, step=counters.step, ids=[])
    counters.best = counters.best.after(value, counters.step)
    return value


def log(job: Job, metrics: MetricsFile | NoMetricsFile, rate: float, value: float | None) -> list[Alarm]:
    """Writes one line: means and throughput since the line before it, and the alarms that it raises."""
    counters, size = job.counters, job.settings.batch_size
    examples = (counters.step - counters.line_step) * size
    line: dict[str, float] = {
        "epoch": counters.step * size / job.course.items,
        "time": counters.seconds,
        "learning_rate": rate,
        **counters.meter.means(),
        **({"tokens": counters.tokens} if counters.tokens else {}),
        **throughput(examples, counters.work, counters.phases, job.peak),
        "memory_peak_mb": max(gathered(memory_peak_mb(job.trained.device))),
    }
    if value is not None:
        line["validation"] = value
    raised = counters.watch.look(job.alarms, counters.step, line)
    line |= counters.watch.marks(raised)
    for alarm in raised if world().leads else ():
        print(f"[{job.run.stage_name}] {alarm}", file=sys.stderr, flush=True)
    metrics.write(counters.step, line)
    job.run.tracker.log(counters.step, line)
    counters.line, counters.line_step = line, counters.step
    counters.meter.clear()
    counters.phases.clear()
    counters.work = Work()
    return raised


def stopped(job: Job, alarm: Alarm) -> AlarmError:
    """What a training under ``alarms=stop`` ends with."""
    return AlarmError(
        f"alarm {alarm.rule.name} (alarms=stop): {alarm.seen}; step {alarm.step} of {job.course.total} is "
        f"finished and saved in {checkpoints_of(job.run)}. resume=true goes on from there, with alarms=warn "
        f"past further alarms; another run.dir starts anew"
    )


def save_is_due(job: Job, *, looked: bool) -> bool:
    """Whether this step is one to be saved: every so often, and the best where the run ends with it."""
    settings, counters = job.settings, job.counters
    best = looked and settings.early_stopping is not None and counters.best.step == counters.step
    return best or (settings.save_every is not None and counters.step % settings.save_every == 0)


def take_best(job: Job) -> None:
    """With early stopping, the best weights, from their checkpoint."""
    best = job.counters.best.step
    if job.settings.early_stopping is not None and best is not None and best != job.counters.step:
        restore_weights(checkpoints.read(checkpoints.folder_of(checkpoints_of(job.run), best)), job.trained)


def checkpoints_of(run: Run) -> Path:
    """Where a run's checkpoints lie."""
    return run.directory / "checkpoints"
