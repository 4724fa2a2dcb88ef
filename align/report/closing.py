"""What a training stage says at its end: its results, and where they and the model lie."""

from __future__ import annotations

from align.distributed.world import world
from align.report.files import read_results
from align.report.terminal import print_summary
from align.run import Run


def closing(run: Run) -> None:
    """Prints the summary of a run that is finished. A pipeline prints its steps' own at its end."""
    if run.is_step or not world().leads:
        return
    results = run.directory / "results.json"
    print_summary(read_results(results), places={"model": run.directory / "model", "results": results})
