"""The whole loop: sft, reward, dpo, evaluate, each as if it were run alone; whole steps are skipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from align.run import Run
    from align.types import Result

__all__ = ["Pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """``stage=pipeline``: runs the steps in ``order``; a step's own options stand under ``steps.NAME``."""

    order: tuple[str, ...]
    """Names of the steps; a name that is no stage's gives its stage as ``steps.NAME.stage``."""

    def execute(self, run: Run) -> None:
        """Writes the steps' results as one results.json, prints the table, draws figures/pipeline.png."""
        from align.report.figures import pipeline_figure
        from align.report.files import merged_samples, read_results, read_samples, write_samples
        from align.report.terminal import print_summary

        results: list[Result] = []
        for step in finished(run):
            results += named_by_step(step, read_results(step.directory / "results.json"))
        # two evaluations beside one reference say the same of it twice
        results = list(dict.fromkeys(results))
        run.write_results(results)
        found = [step.directory / "samples.jsonl" for step in run.steps if step.stage_name == "evaluate"]
        rows = merged_samples([read_samples(path) for path in found if path.exists()])
        if rows:
            write_samples(run.directory / "samples.jsonl", rows)
        figure = run.directory / "figures" / "pipeline.png"
        pipeline_figure({step.directory.name: step.directory for step in run.steps}, results, rows, figure)
        places = {
            **{f"{step.directory.name} model": step.directory / "model" for step in run.steps},
            "results": run.directory / "results.json",
            "samples": run.directory / "samples.jsonl",
            "figure": figure,
        }
        print_summary(results, rows, {name: path for name, path in places.items() if path.exists()})


def finished(run: Run) -> Iterator[Run]:
    """The steps of a run, each once it is done; one that is whole already is skipped."""
    from align.distributed.start import start
    from align.report.console import say, step_heading

    for number, step in enumerate(run.steps, start=1):
        step_heading(number, len(run.steps), step.directory.name, step.directory)
        if step.is_whole():
            say("already whole, skipped")
        else:
            start(step.continued(run.resume))
        yield step


def named_by_step(step: Run, results: Sequence[Result]) -> list[Result]:
    """Results under the step's name where it has another than its stage's: two steps may be of one stage.

    Those of evaluations are named by the policy already.
    """
    name, stage = step.directory.name, step.stage_name
    if name == stage or stage == "evaluate":
        return list(results)
    return [
        replace(one, metric=f"{name}/{one.metric.removeprefix(f'{stage}/')}")
        if one.metric.startswith(f"{stage}/")
        else one
        for one in results
    ]
