"""Collecting: preference pairs made by machine, by any of the methods in ``align/collect/``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from align.collect._lengths import LengthControl
from align.collect._probe import ProbeSettings
from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.protocols import Chooses, Collector, RewardModel
from align.settings import CollectionSettings, DatasetSettings, SamplingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from align.collect._bench import Bench, Collected, Truth
    from align.run import Run

__all__ = ["Collect"]


@dataclass(frozen=True)
class Collect:
    """``stage=collect``: from prompts, demonstrations or pairs to records that train at once."""

    many_ranks: ClassVar[bool] = True
    dataset: DatasetSettings
    collect: Collector
    model: ModelSettings | None = None
    server: ServerSettings | None = None
    """A model behind a server that writes instead of ``model.path``."""
    reward: RewardModel | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    collection: CollectionSettings = field(default_factory=CollectionSettings)
    length: LengthControl = field(default_factory=LengthControl)
    probe: ProbeSettings = field(default_factory=ProbeSettings)

    def __post_init__(self) -> None:
        method = type(self.collect).__module__.removeprefix("align.collect.")
        writes = "writer" in self.collect.needs
        if writes and (self.model is None) == (self.server is None):
            raise ConfigError(
                f"collect={method} takes one who writes: give either model.path=RUN, "
                f"or server.url=ADDRESS server.model=NAME"
            )
        if writes and self.model and self.model.path is None:
            raise ConfigError(f"collect={method} samples from a trained model: give model.path=RUN")
        if self.model and self.sampling.max_new_tokens >= self.model.max_length:
            raise ConfigError(
                f"sampling.max_new_tokens={self.sampling.max_new_tokens} leaves no room for a prompt in "
                f"model.max_length={self.model.max_length}: lower the one or raise the other"
            )
        scores = "reward" in self.collect.needs
        if scores and self.reward is None:
            raise ConfigError(f"collect={method} as it is set needs a reward: give reward=NAME")
        for name, given, used in (
            ("model", self.model, writes),
            ("server", self.server, writes),
            ("reward", self.reward, scores),
        ):
            if given is not None and not used:
                raise ConfigError(f"collect={method} as it is set does not use a {name}: leave out {name}")

    def execute(self, run: Run) -> None:
        """Writes outcomes.jsonl (chunk by chunk), then records.jsonl with manifest.json, samples and results.

        ``dataset=records dataset.path=RUN`` trains on it. Pairs that others are to judge go to
        candidates/candidates.jsonl instead.
        """
        from align.collect._given import read_given
        from align.collect._loop import collected, outcomes
        from align.collect._results import counts, decisive, label_results, nothing, pair_samples, probed
        from align.distributed.world import led
        from align.report.console import Progress, say
        from align.report.files import write_samples
        from align.report.terminal import print_summary
        from align.stages._pools import refuse_others

        settings, before = self.collection, dict(run.inputs())
        path = run.directory / "outcomes.jsonl"
        with ExitStack() as closing:
            collecting = self.collect.open(self._bench(run, closing))
            start = self.collect.starts_from
            given = led(lambda: read_given(self.dataset, start, settings, run.directory))
            run.note_input("data", getattr(self.dataset.source, "path", None), given.fingerprint)
            refuse_others(path, before, run.inputs())
            say(f"{len(given.items)} {self.collect.starts_from} to start from")
            with Progress("collecting", len(given.items)) as bar:
                each = outcomes(path, given.items, settings.chunk, run.seed, collecting, bar.advance)
        found = collected(self.collect, each, run.seed, self.length)
        made = self._write(run, found)
        if not (found.records or found.candidates):
            say(nothing(f"{len(each)} {self.collect.starts_from}", found.abstained))
        run.note(collect={"given": len(each), "abstained": dict(found.abstained)})
        truth = self._truth()
        results = counts(each, found) + label_results(self.collect, found, truth)
        words = probed(found.records, truth, self.probe)
        if words is not None:
            results += words.results
            run.note(probe={"telling": words.telling, "warning": words.warning})
            if words.warning:
                say(words.warning)
        rows = pair_samples(decisive(found.records), truth)
        write_samples(run.directory / "samples.jsonl", rows)
        run.write_results(results)
        if not run.is_step:
            print_summary(results, rows, {**made, "results": run.directory / "results.json"})

    def _write(self, run: Run, found: Collected) -> dict[str, Path]:
        """What was collected, on disk and in run.json."""
        from align.distributed.world import led
        from align.pairs.candidates import CANDIDATES, write_candidates
        from align.pairs.records import RECORDS, write_records
        from align.report.console import say

        if isinstance(self.collect, Chooses):
            name, path = "candidates", run.directory / "candidates" / CANDIDATES
            count = led(lambda: write_candidates(path.parent, found.candidates))
        else:
            name, path = "records", run.directory / RECORDS
            count = led(lambda: write_records(path.parent, found.records))
        say(f"{count} pairs: {path}")
        run.offer(name, path, "pairs", pairs=count)
        return {name: path}

    def _truth(self) -> Truth | None:
        from align import registry
        from align.collect._bench import Truth
        from align.protocols import KnownTruth

        source = self.dataset.source
        if not isinstance(source, KnownTruth):
            return None
        return Truth(source, registry.component("reward", source.reward)().prepare())

    def _bench(self, run: Run, closing: ExitStack) -> Bench:
        from align.collect._bench import Bench
        from align.stages._common import judge_of, open_reward
        from align.stages._writers import writer_opener

        open_writer = writer_opener(run, self.sampling, closing)
        place = self.model or self.server
        return Bench(
            seed=run.seed,
            cache=run.cache,
            sampling=self.sampling,
            open_writer=open_writer,
            note=lambda role, path: run.note_input(role, path),
            writer_here=open_writer("model", place) if place else None,
            scorer_here=open_reward(run, self.reward) if self.reward else None,
            judge_here=judge_of(run, self.reward) if self.reward else None,
        )
