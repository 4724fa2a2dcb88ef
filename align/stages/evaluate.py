"""Evaluation: a policy against its reference on unseen prompts, by the known truth and by a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from align.errors import ConfigError
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
    """``stage=evaluate``: rewards, win rate and drift with 95 % intervals, and samples side by side."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    reference: ReferenceSettings
    dataset: DatasetSettings
    reward: RewardModel | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        if self.sampling.max_new_tokens >= self.model.max_length:
            raise ConfigError(
                f"sampling.max_new_tokens={self.sampling.max_new_tokens} leaves no room for a prompt in "
                f"model.max_length={self.model.max_length}: lower the one or raise the other"
            )

    def execute(self, run: Run) -> None:
        """Writes results.json and samples.jsonl, and prints them.

        Each metric is named by the stage that made the policy (``dpo/gold_win_rate``); ``gold`` is the
        dataset's known truth, ``proxy`` the reward that was asked for.
        """
        from align.evaluation.compare import compare, sample_rows
        from align.evaluation.drift import drift
        from align.evaluation.policies import answers, labels_of, logps_of, rewards, scored
        from align.pairs.prompts import read_prompts
        from align.report.console import say
        from align.report.files import write_samples
        from align.report.terminal import print_summary
        from align.stages._common import open_reward, open_to_sample
        from align.tracking.samples import sample_table

        policy = open_to_sample(run, "model", self.model)
        other = ModelSettings(path=self.reference.path, max_length=self.model.max_length)
        reference = open_to_sample(run, "reference", other)
        judges = rewards(self.dataset.source, self.reward)
        scorers = {name: open_reward(run, reward) for name, reward in judges.items()}
        unseen = read_prompts(self.dataset, "test", run.directory, self.evaluation.prompts)
        run.note_input("data", getattr(self.dataset.source, "path", None), unseen.fingerprint)
        say(f"{len(unseen.prompts)} unseen prompts, answered by both policies")
        labels = labels_of(self.model.path, self.reference.path)
        ours = answers(labels[0], policy, unseen.prompts, self.sampling, run.seed)
        theirs = answers(labels[1], reference, unseen.prompts, self.sampling, run.seed)

        logps = logps_of(policy, reference, unseen.prompts, ours.replies, self.sampling)
        results = drift(ours.label, *logps)
        rows: list[dict[str, Any]] = []
        for name, scorer in scorers.items() or (("none", None),):
            mine, others = (scored(one, unseen.prompts, scorer) for one in (ours, theirs))
            results += [one for one in compare(unseen.prompts, mine, others, name) if one not in results]
            rows = rows or sample_rows(unseen.prompts, (others, mine), name)
        write_samples(run.directory / "samples.jsonl", rows)
        run.tracker.table("samples", sample_table(rows))
        run.write_results(results)
        if not run.is_step:
            places = {"results": run.directory / "results.json", "samples": run.directory / "samples.jsonl"}
            print_summary(results, rows, places, shown=self.evaluation.shown)
