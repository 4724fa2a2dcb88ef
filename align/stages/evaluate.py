"""Evaluation: a policy against its reference on unseen prompts, by the known truth and by a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.protocols import RewardModel
from align.settings import (
    DatasetSettings,
    EvaluationSettings,
    ModelSettings,
    ReferenceSettings,
    SamplingSettings,
)

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """``stage=evaluate``: reward, win rate and drift with 95 % intervals, and samples side by side."""

    model: ModelSettings
    reference: ReferenceSettings
    dataset: DatasetSettings
    reward: RewardModel | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def execute(self, run: Run) -> None:
        """Writes results.json and samples.jsonl, and prints them."""
        from align.evaluation.policies import evaluate_policy
        from align.report.files import read_samples
        from align.report.terminal import print_summary

        results = evaluate_policy(run, self)
        run.write_results(results)
        samples = run.directory / "samples.jsonl"
        if not run.is_step:
            places = {"results": run.directory / "results.json", "samples": samples}
            print_summary(results, read_samples(samples), places, shown=self.evaluation.shown)
