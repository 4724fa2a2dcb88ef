"""What runs there are: stage, state, seed, age and first results of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.settings import ListingSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Runs"]


@dataclass(frozen=True)
class Runs:
    """``stage=runs``: lists the run directories of a folder, newest last."""

    runs: str
    """Folder that they lie in, at any depth."""
    listing: ListingSettings = field(default_factory=ListingSettings)

    def execute(self, run: Run) -> None:
        """Prints the table, and writes the same to runs.json."""
        from datetime import UTC, datetime
        from pathlib import Path

        from align.comparison.listing import listed, print_runs
        from align.files import write_json

        folder, own = Path(self.runs), run.directory.resolve()
        found = listed(folder, metrics=self.listing.metrics, steps=self.listing.steps, but=own)
        rows = [
            {
                "directory": str(one.directory),
                "stage": one.stage,
                "state": one.state,
                "seed": one.seed,
                "started": one.started.isoformat() if one.started else None,
                "seconds": one.seconds,
                "metrics": {result.metric: result.value for result in one.metrics},
                "error": one.error,
            }
            for one in found
        ]
        write_json(run.directory / "runs.json", rows)
        print_runs(found, folder, datetime.now(UTC))
