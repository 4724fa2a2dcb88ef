"""Evaluation: what was asked for by ``benchmark=``, of a policy, a reward model or a file of judgements."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from align.errors import ConfigError
from align.models.settings import ModelSettings
from align.protocols import Benchmark, Part, RewardModel
from align.settings import DatasetSettings, EvaluationSettings, ReferenceSettings, SamplingSettings

if TYPE_CHECKING:
    from align.benchmarks._measured import Measured
    from align.run import Run

__all__ = ["Evaluate"]

_TYPED: dict[Part, str] = {
    "model": "model.path=RUN",
    "reference": "reference.path=RUN",
    "dataset": "dataset=NAME",
    "reward": "reward=NAME",
    "sampling": "sampling=default",
}
"""How each part is given."""


@dataclass(frozen=True)
class Evaluate:
    """``stage=evaluate``: each benchmark's results with 95 % intervals, and the replies that they rest on."""

    many_ranks: ClassVar[bool] = True
    benchmark: Mapping[str, Benchmark]
    """What to measure; a benchmark's key is what its metrics are named by."""
    model: ModelSettings | None = None
    reference: ReferenceSettings | None = None
    dataset: DatasetSettings | None = None
    reward: RewardModel | None = None
    sampling: SamplingSettings | None = None
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        if not self.benchmark:
            raise ConfigError("nothing to measure: give benchmark=NAME")
        names = ", ".join(self.benchmark)
        for part in get_args(Part):
            there = getattr(self, part) is not None
            needing = [name for name, one in self.benchmark.items() if part in one.needs]
            used = needing or any(part in one.takes for one in self.benchmark.values())
            if needing and not there:
                raise ConfigError(f"benchmark={needing[0]} needs a {part}: give {_TYPED[part]}")
            if there and not used:
                raise ConfigError(f"benchmark={names} does not use a {part}: leave out {part}")
        if self.model and self.sampling and self.sampling.max_new_tokens >= self.model.max_length:
            raise ConfigError(
                f"sampling.max_new_tokens={self.sampling.max_new_tokens} leaves no room for a prompt in "
                f"model.max_length={self.model.max_length}: lower the one or raise the other"
            )

    def execute(self, run: Run) -> None:
        """Writes results.json, samples.jsonl (replies) and items.jsonl (what else was measured one by one).

        Each metric is named by its benchmark (``perplexity/bits_per_byte``); those of ``win_rate`` by the
        stage that made the policy (``dpo/gold_win_rate``).
        """
        from align.benchmarks._material import Material
        from align.report.console import say
        from align.report.files import write_samples
        from align.report.terminal import print_summary
        from align.tracking.samples import sample_table

        found: dict[str, Measured] = {}
        with ExitStack() as closing:
            given = Material(run, self, closing)
            for label, benchmark in self.benchmark.items():
                if len(self.benchmark) > 1:
                    say(f"benchmark {label}")
                found[label] = benchmark.measure(label, given)
        places = {"results": run.directory / "results.json"}
        samples = _rows({label: one.samples for label, one in found.items()})
        if samples:
            places["samples"] = run.directory / "samples.jsonl"
            write_samples(places["samples"], samples)
            run.tracker.table("samples", sample_table(samples))
        items = _rows({label: one.items for label, one in found.items()})
        if items:
            places["items"] = run.directory / "items.jsonl"
            write_samples(places["items"], items)
        results = [result for one in found.values() for result in one.results]
        run.write_results(results)
        if not run.is_step:
            print_summary(results, samples, places, shown=self.evaluation.shown)


def _rows(by_label: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of all benchmarks, each with its benchmark's name."""
    return [{"benchmark": label, **row} for label, rows in by_label.items() for row in rows]
