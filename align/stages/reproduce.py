"""A finished run, done again from its run.json: are the numbers the same?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.reproduction.settings import ReproduceSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Reproduce"]


@dataclass(frozen=True)
class Reproduce:
    """``stage=reproduce original=DIR``: the same work into ``again/``, then number by number."""

    original: str
    """Directory of the run; ``run.dir`` is the repetition's own."""
    reproduce: ReproduceSettings = field(default_factory=ReproduceSettings)

    def execute(self, run: Run) -> None:
        """Writes again/, reproduction.json and results.json, and prints the table.

        Raises:
            ConfigError: something has changed, and ``reproduce.changed=refuse``.
            NotReproduced: numbers differ though nothing has changed, or lie outside their intervals.
        """
        from pathlib import Path

        from align.distributed.start import start
        from align.report.console import say
        from align.reproduction.again import parts, record_of, run_again
        from align.reproduction.changes import changed_around, changed_inputs, changed_models
        from align.reproduction.told import judge, tell_changes, write

        was, now = Path(self.original), run.directory / "again"
        record = record_of(was)
        run.note_input("original", self.original)
        again = run_again(record, now, str(run.cache))
        changes = [*changed_around(record), *changed_models(record)]
        tell_changes(changes, refuse=self.reproduce.changed == "refuse")
        say(f"again: {' '.join(again.command)} -> {now}")
        if not again.is_whole():
            start(again.continued(now.exists()))
        found = parts(record, was, now)
        later = [one for one in changed_inputs(found) if one not in changes]
        tell_changes(later, refuse=self.reproduce.changed == "refuse")
        changes += later
        write(run, found, changes)
        judge(found, changes)
