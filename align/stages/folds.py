"""k folds of a reward model: each part of the prompts is scored by a model that was trained on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from align.config import Range

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Folds"]


@dataclass(frozen=True)
class Folds:
    """``stage=folds folds=5``: as many runs of stage=reward, and what they say together of all pairs."""

    folds: Annotated[int, Range(low=2)]
    """Parts of the prompts, and models."""
    order: tuple[str, ...]
    """The runs, one a fold; made of ``folds``."""

    def execute(self, run: Run) -> None:
        """Trains what is not whole yet; writes out_of_fold.jsonl, and the pooled results to results.json.

        ``folds/accuracy`` is over all pairs, each scored by the model that had not seen its prompt;
        ``fold_0/accuracy`` and so on are the models' own.
        """
        from align.report.files import read_results
        from align.report.terminal import print_summary
        from align.stages._folds import pooled
        from align.stages.pipeline import finished, named_by_step

        results = [
            result
            for step in finished(run)
            for result in named_by_step(step, read_results(step.directory / "results.json"))
        ]
        scores = run.directory / "out_of_fold.jsonl"
        folders = {step.directory.name: step.directory for step in run.steps}
        results = [*pooled(scores, folders, "folds"), *results]
        run.write_results(results)
        print_summary(results, (), {"scores": scores, "results": run.directory / "results.json"})
