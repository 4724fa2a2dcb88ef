"""Steps drawn from a prepared set, small or large: what the size of the data costs."""

from __future__ import annotations

from typing import Any

from align.alarms.settings import AlarmSettings
from align.distributed.device import device
from align.models.scalar import load_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.pairs.store import TokenStore
from align.report.files import read_metrics
from align.reward_losses.bradley_terry import BradleyTerry
from align.run import Run
from align.settings import TrainingSettings
from align.stages._common import effective, ready
from align.tensors import TokenPair
from align.tracking.none import NoTracker
from align.training.course import Batches
from align.training.loop import train
from align.training.objectives import Scoring
from align.types import PreferencePair
from experiments.speed.work import Job


def measure(job: Job) -> dict[str, Any]:
    """Trains a small reward model for a fixed number of steps on ``sets/<what>.arrow``."""
    work = job.work
    items: TokenStore[TokenPair, PreferencePair] = TokenStore(job.world / "sets" / f"{job.what}.arrow")
    scalar = load_scalar(
        ModelSettings(path=str(job.world / "sets" / "model"), max_length=work.max_length),
        AdapterSettings(),
        texts=None,
        seed=work.seed,
        device=device(),
    )
    settings = TrainingSettings(
        max_steps=work.draws,
        batch_size=work.batch_size,
        learning_rate=work.learning_rate,
        schedule="constant",
        precision=work.precision,
        log_every=1,
    )
    forward = ready(scalar, settings)
    job.directory.mkdir(parents=True)
    settings = effective(settings, forward)
    objective = Scoring(forward, BradleyTerry())
    summary = train(
        run=Run(job.directory, None, "reward", work.seed, False, NoTracker()),  # type: ignore[arg-type]
        settings=settings,
        alarms=AlarmSettings(),
        model=scalar.model,
        course=Batches(objective, items, lambda item: str(item.id), settings, work.seed),
        device=device(),
    )
    losses = [line["loss"] for line in read_metrics(job.directory / "metrics.jsonl")]
    return {"pairs": work.draws * work.batch_size, "seconds": summary.seconds, "losses": losses}
