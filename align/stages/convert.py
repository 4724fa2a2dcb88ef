"""A dataset in another format: pairs for other frameworks, or this project's own records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.pairs.read import refuse_demonstrations, refuse_unlabelled
from align.settings import ConvertSettings, DatasetSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Convert"]


@dataclass(frozen=True)
class Convert:
    """``stage=convert``: writes a dataset in ``convert.format``, and says what that format has lost."""

    dataset: DatasetSettings
    convert: ConvertSettings = field(default_factory=ConvertSettings)

    def __post_init__(self) -> None:
        if self.convert.format == "unpaired":
            refuse_unlabelled(self.dataset)
        elif self.convert.format != "prompt_completion":
            refuse_demonstrations(self.dataset)
        if self.convert.format == "records" and self.dataset.ties != "drop":
            raise ConfigError(
                f"dataset.ties={self.dataset.ties} makes pairs of ties, and records keep them as they are: "
                f"leave it out, or give another convert.format"
            )

    def execute(self, run: Run) -> None:
        """Writes ``<format>.jsonl`` with manifest.json (or records/), lost.json, data_report.json."""
        from align.pairs.convert import convert, lines
        from align.report.console import say
        from align.types import Result

        done, report = convert(self.dataset, self.convert.format, run.directory)
        run.note_input("data", getattr(self.dataset.source, "path", None))
        for line in lines(done, report):
            say(line)
        say(f"  what was left out, row by row: {run.directory / 'data_report.json'}")
        run.offer("converted", done.path, self.convert.format, rows=done.rows)
        counts = {"rows": done.rows, "refused": report.refused.total()}
        run.write_results(
            [
                Result(f"convert/{name}", count, report.read, None, None, "exact")
                for name, count in counts.items()
            ]
        )
