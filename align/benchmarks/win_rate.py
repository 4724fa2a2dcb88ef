"""A policy against its reference on unseen prompts: by the known truth, a reward model, or a judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from align.collect.judge import Judge
from align.errors import ConfigError
from align.protocols import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.evaluation.compare import Answers
    from align.types import Prompt, Result

__all__ = ["WinRate"]


@dataclass(frozen=True)
class WinRate:
    """Rewards, win rates (at equal lengths too), drift. Metrics are named by the stage that made the policy.

    ``dpo/gold_win_rate`` is by the dataset's known truth, ``dpo/proxy_win_rate`` by the reward that was asked
    for, ``dpo/judge_win_rate`` by a model that is shown both replies, in both orders.
    """

    needs: ClassVar[tuple[Part, ...]] = ("model", "reference", "dataset", "sampling")
    takes: ClassVar[tuple[Part, ...]] = ("reward",)

    judge: Judge | None = None
    """A model that compares the replies, here (``judge.path``) or behind a server (``judge.server``)."""

    def __post_init__(self) -> None:
        if self.judge is not None and self.judge.candidates != "dataset":
            raise ConfigError("judge.candidates is for stage=collect: the replies are the two policies' here")

    def measure(self, label: str, given: Material) -> Measured:
        """Results of both policies; ``label`` is not in their names, which say whose they are."""
        from align.benchmarks._measured import Measured
        from align.benchmarks._wins import judged_wins
        from align.evaluation.compare import compare, sample_rows
        from align.evaluation.drift import drift
        from align.evaluation.policies import logps_of, scored
        from align.report.console import say

        policy, reference, scorers = given.policy, given.reference, given.scorers
        asking = None if self.judge is None else self.judge.open(given.bench())
        prompts = given.prompts
        say(f"{len(prompts)} unseen prompts, answered by both policies")
        ours, theirs = given.dataset_answers("policy"), given.dataset_answers("reference")
        logps = logps_of(policy, reference, prompts, ours.replies, given.sampling)
        results = drift(ours.label, *logps)
        rows: list[dict[str, Any]] = []
        for name, scorer in scorers.items() or (("none", None),):
            mine, others = (scored(one, prompts, scorer) for one in (ours, theirs))
            results += [one for one in compare(prompts, mine, others, name) if one not in results]
            if scorer is not None:
                results += _equal_length(prompts, mine, others, name)
            rows = rows or sample_rows(prompts, (others, mine), name)
        if asking is not None:
            results += judged_wins(asking, prompts, ours, theirs, given.seed)
        return Measured(results, rows)


def _equal_length(prompts: Sequence[Prompt], ours: Answers, theirs: Answers, reward: str) -> list[Result]:
    from align.benchmarks._wins import at_equal_length, score_outcomes, token_lengths

    outcomes = score_outcomes(ours, theirs)
    return at_equal_length(
        f"{ours.label}/{reward}_win_rate_at_equal_length",
        list(outcomes.values()),
        token_lengths(outcomes, ours),
        token_lengths(outcomes, theirs),
        [prompts[place] for place in outcomes],
    )
