"""Comparison: many runs side by side, and what of their differences is more than prompts and seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.settings import CompareSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Compare"]


@dataclass(frozen=True)
class Compare:
    """``stage=compare``: one page, tables and figures of finished runs; nothing is run again."""

    runs: tuple[str, ...]
    """Run directories, patterns (``'sweep/*'``), folders that hold them (a sweep's ``run.dir``), or projects
    of Weights & Biases (``wandb:ENTITY/PROJECT``, ``wandb:ENTITY/PROJECT/GROUP``)."""
    compare: CompareSettings = field(default_factory=CompareSettings)

    def execute(self, run: Run) -> None:
        """Writes comparison.html, compare.json, results.json, the tables as CSV and the figures."""
        from align.comparison.found import read_runs, run_directories
        from align.comparison.told import print_comparison
        from align.comparison.whole import compared
        from align.comparison.written import write
        from align.report.console import say
        from align.tracking.wandb_runs import PREFIX, fetched

        from_wandb = [word for word in self.runs if word.startswith(PREFIX)]
        mirrored = [place for word in from_wandb for place in fetched(word, run.directory / "mirrored")]
        on_disk = run_directories([word for word in self.runs if word not in from_wandb])
        directories = [place for place in on_disk if place.resolve() != run.directory.resolve()]
        found, left_out = read_runs([*directories, *mirrored], self.compare.stage)
        comparison = compared(found, left_out, self.compare)
        for left, reason in comparison.left_out.items():
            say(f"left out {left}: {reason}")
        run.note_inputs({one.name: (str(one.directory), one.data) for one in found})
        places = write(comparison, run.directory)
        run.write_results(comparison.results())
        print_comparison(comparison)
        for name, path in places.items():
            say(f"  {name}: {path}")
