"""People choose in a browser: serves the pages, keeps what they say, writes it as records at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.annotate.settings import AllocationSettings, AnnotateSettings, QuestionSettings
from align.settings import DatasetSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Annotate"]


@dataclass(frozen=True)
class Annotate:
    """``stage=annotate``: which of two replies is better, asked of people."""

    dataset: DatasetSettings
    annotate: AnnotateSettings = field(default_factory=AnnotateSettings)
    allocation: AllocationSettings = field(default_factory=AllocationSettings)
    question: QuestionSettings = field(default_factory=QuestionSettings)

    def execute(self, run: Run) -> None:
        """Imports the items, serves until Ctrl-C or SIGTERM, then writes records.jsonl and results.json.

        What the dataset's own labels say is hidden. ``resume=true`` goes on with the same database, links and
        sessions.

        Raises:
            DataError: there is nothing to annotate.
            StoreError: the database cannot be used.
        """
        from align.annotate import accounts_schema  # noqa: F401  before the desk, which makes the tables
        from align.annotate.accounts import Accounts
        from align.annotate.app import build_app
        from align.annotate.desk import Desk
        from align.annotate.keeping import records_written
        from align.annotate.seals import Seals, study_key
        from align.annotate.server import listen, origins, serve
        from align.annotate.snapshot import Reports
        from align.annotate.study import Study, read_guidelines
        from align.annotate.watch import watched
        from align.stages._annotate import close_study, fill, invite

        settings = self.annotate
        study = Study(settings, self.question, read_guidelines(self.question.guidelines))
        listening = listen(settings)
        addresses = origins(settings, listening.getsockname()[1])
        desk = Desk(
            settings.database or run.directory / "annotations.sqlite",
            self.allocation,
            strength_of=self.question.steps() or None,
            guideline=study.guideline_version(),
            code=settings.completion_code,
        )
        end = None
        try:
            fill(run, desk, self.dataset, self.allocation.gold)
            seals = Seals(study_key(run.directory / "study.key"), settings.session_hours)
            accounts = Accounts(desk, seals)
            app = build_app(desk, accounts, seals, study, addresses)
            invite(accounts, settings, addresses[0])
            with records_written(desk, run.directory), watched(desk, Reports(desk.database, desk.settings)):
                end = serve(app, listening, settings)
            close_study(run, desk)
        finally:
            listening.close()
            desk.close()
        if end is not None:
            raise end
