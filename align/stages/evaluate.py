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
        """Writes results.json, samples.jsonl and figures/evaluation.png."""
        from align.evaluation.policies import evaluate_policy

        run.write_results(evaluate_policy(run, self))
