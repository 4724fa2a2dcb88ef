"""What a training does in a step: the loop knows how to log, look, save and resume, a course what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from align.settings import TrainingSettings
from align.training.sampler import Sampler, total_steps
from align.training.state import Trained
from align.training.update import Item, Items, Objective, Taken, update


class Course(Protocol):
    """The steps of a training."""

    @property
    def total(self) -> int:
        """Steps from the first to the last."""

    @property
    def items(self) -> int:
        """Examples or prompts that an epoch passes over; each step draws ``training.batch_size`` of them."""

    def take(self, step: int, trained: Trained, lap: Callable[[str], None]) -> Taken:
        """Takes a step (1-based): changes the weights through the optimiser, whose rate is set already.

        What it draws comes from the global generators, or follows from the step: a resumed run takes the
        same steps. ``lap`` is called with the phase (``PHASES``) that has just ended.

        Raises:
            NonFiniteError: a loss, metric or gradient is NaN or infinite; no weight was changed by it.
        """

    def state(self) -> Mapping[str, Any]:
        """What it keeps from step to step, as plain values (exact in JSON)."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``."""


@dataclass(frozen=True)
class Batches(Course, Generic[Item]):
    """One optimiser step on a batch of items that lie ready: sft, reward, dpo. Nothing is kept."""

    objective: Objective[Item]
    """Its gradient is followed; see ``update``."""
    data: Items[Item]
    """Drawn by a seeded permutation an epoch, read when they are needed."""
    describe: Callable[[Item], str]
    """An id of an item, for error messages."""
    settings: TrainingSettings
    seed: int

    @property
    def total(self) -> int:
        """``training.max_steps``, or what ``training.epochs`` takes."""
        settings = self.settings
        return total_steps(settings.max_steps, settings.epochs, settings.batch_size, self.items)

    @property
    def items(self) -> int:
        """Examples of the training split."""
        return len(self.data)

    @functools.cached_property
    def _sampler(self) -> Sampler:
        lengths = getattr(self.data, "lengths", None)
        settings = self.settings
        window = settings.length_window
        return Sampler(self.seed, settings.batch_size, self.items, window, lengths, settings.shuffle)

    def take(self, step: int, trained: Trained, lap: Callable[[str], None]) -> Taken:
        """See ``Course``."""
        settings = self.settings
        batch = [self.data[index] for index in self._sampler.batch(step)]
        ids = [self.describe(item) for item in batch]
        lap("data")
        return update(
            self.objective,
            batch,
            parameters=trained.parameters,
            engine=trained.engine,
            micro_batch_size=settings.micro_batch_size,
            max_grad_norm=settings.max_grad_norm,
            step=step,
            ids=ids,
            lap=lap,
        )

    def state(self) -> Mapping[str, Any]:
        """Nothing: batches follow from the seed and the step."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
