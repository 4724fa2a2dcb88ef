"""What the benchmarks of one evaluation work with: opened at its first use, and once for all of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from align.collect._bench import Bench, Candidates, OpenWriter
from align.collect._given import read_given
from align.distributed.world import led
from align.evaluation.policies import answers, labels_of, rewards
from align.models.settings import ModelSettings
from align.pairs.prompts import read_prompts
from align.settings import CollectionSettings, DatasetSettings, SamplingSettings
from align.stages._common import open_reward, open_to_sample
from align.stages._writers import writer_opener

if TYPE_CHECKING:
    from align.evaluation.compare import Answers
    from align.models.policy import Policy
    from align.pairs.split import Split
    from align.protocols import Scorer
    from align.run import Run
    from align.stages.evaluate import Evaluate
    from align.types import Prompt

T = TypeVar("T")
Which = Literal["policy", "reference"]


@dataclass
class Material:
    """A run and its evaluation's settings, of which a benchmark finds open what it ``needs``."""

    run: Run
    settings: Evaluate
    closing: ExitStack
    _answers: dict[Which, Answers] = field(default_factory=dict)
    _data: dict[str, str | None] = field(default_factory=dict)
    """Benchmark and hash of what was measured on -> its place."""

    @property
    def seed(self) -> int:
        """The run's."""
        return self.run.seed

    @functools.cached_property
    def policy(self) -> Policy:
        """That of ``model.path``."""
        return open_to_sample(self.run, "model", _there(self.settings.model))

    @functools.cached_property
    def reference(self) -> Policy:
        """That of ``reference.path``, which reads as many tokens as the policy."""
        place, most = _there(self.settings.reference).path, _there(self.settings.model).max_length
        return open_to_sample(self.run, "reference", ModelSettings(place, max_length=most))

    @functools.cached_property
    def labels(self) -> tuple[str, str]:
        """What metrics call the policy and the reference."""
        reference = self.settings.reference
        return labels_of(_there(self.settings.model).path, reference.path if reference else "")

    @functools.cached_property
    def scorers(self) -> dict[str, Scorer]:
        """The dataset's known truth (``gold``) and the reward that was asked for (``proxy``), where given."""
        judges = rewards(self.dataset.source, self.settings.reward)
        return {name: open_reward(self.run, reward) for name, reward in judges.items()}

    @functools.cached_property
    def scorer(self) -> Scorer:
        """The reward that was asked for."""
        return open_reward(self.run, _there(self.settings.reward))

    @property
    def dataset(self) -> DatasetSettings:
        """Settings of the dataset."""
        return _there(self.settings.dataset)

    @property
    def sampling(self) -> SamplingSettings:
        """How replies are drawn."""
        return _there(self.settings.sampling)

    @functools.cached_property
    def prompts(self) -> list[Prompt]:
        """Distinct prompts of the test split, ``evaluation.prompts`` at most."""
        most = self.settings.evaluation.prompts
        found = read_prompts(self.dataset, "test", self.run.directory, most)
        self.note_data("", self._place(), found.fingerprint)
        return found.prompts

    def examples(
        self, kind: Literal["demonstrations", "pairs"], split: Split | Literal["all"], limit: int | None
    ) -> list[Candidates]:
        """The first ``limit`` demonstrations (of pairs, the chosen replies) or records, of a split or all."""
        whole = split == "all"
        settings = CollectionSettings(limit=limit, split="test" if split == "all" else split)
        found = led(lambda: read_given(self.dataset, kind, settings, self.run.directory, whole=whole))
        self.note_data("", self._place(), found.fingerprint)
        return found.items

    def dataset_answers(self, which: Which) -> Answers:
        """A reply to each of ``prompts``, drawn once for all benchmarks."""
        if which not in self._answers:
            self._answers[which] = self.answers(which, self.prompts)
        return self._answers[which]

    def answers(self, which: Which, prompts: Sequence[Prompt]) -> Answers:
        """A reply to each prompt."""
        policy = self.policy if which == "policy" else self.reference
        return answers(self.labels[which == "reference"], policy, prompts, self.sampling, self.seed)

    @functools.cached_property
    def open_writer(self) -> OpenWriter:
        """Opens a model that judges or rewrites, here or behind a server."""
        return writer_opener(self.run, self.settings.sampling or SamplingSettings(), self.closing)

    def bench(self) -> Bench:
        """What a judge of two replies is opened with."""
        return Bench(
            seed=self.seed,
            cache=self.run.cache,
            sampling=self.settings.sampling or SamplingSettings(),
            open_writer=self.open_writer,
            note=lambda role, path: self.run.note_input(role, path),
        )

    def note_data(self, label: str, path: str | None, fingerprint: str) -> None:
        """Writes down what was measured on; runs that measured on other data are not compared.

        ``label`` is the benchmark's where it reads data of its own, or else empty. The role ``data`` stands
        for all of it together.
        """
        if label:
            self.run.note_input(f"data.{label}", path, fingerprint)
        self._data[f"{label} {fingerprint}"] = path
        if len(self._data) > 1:
            together = "\n".join(sorted(self._data))
            path, fingerprint = None, hashlib.sha256(together.encode()).hexdigest()
        self.run.note_input("data", path, fingerprint)

    def _place(self) -> str | None:
        place: str | None = getattr(self.dataset.source, "path", None)
        return place


def _there(value: T | None) -> T:
    """What the stage has checked to be given."""
    assert value is not None, "a benchmark works with what it does not need"
    return value
