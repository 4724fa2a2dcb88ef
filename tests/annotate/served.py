"""A study on a port of its own, in a thread: what the tests of pages and browser talk to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from align.annotate import accounts_schema  # noqa: F401  before the desk, which makes the tables
from align.annotate.accounts import Accounts
from align.annotate.app import build_app
from align.annotate.desk import Desk
from align.annotate.guard import Guard
from align.annotate.seals import Seals
from align.annotate.server import listen, origins, server
from align.annotate.settings import AllocationSettings
from align.annotate.study import Study
from align.types import Judge, Message, PreferenceRecord, Reply

KEY = bytes(range(32))


def pairs(count: int, mark: str = "") -> list[PreferenceRecord]:
    """Pairs whose replies name themselves, with models and a method that nobody may see."""
    return [
        PreferenceRecord(
            id="",
            prompt=(Message("system", f"Be brief.{mark}"), Message("user", f"Question {number}?{mark}")),
            replies=(
                Reply(f"first of {number}{mark}", model="secret-model-one", seed=71),
                Reply(f"second of {number}{mark}", model="secret-model-two", sampling={"temperature": 0.123}),
            ),
            preferred="first",
            judge=Judge("function", "secret-judge"),
            method="secret-method",
        )
        for number in range(1, count + 1)
    ]


@dataclass
class Place:
    """A study that is open: desk, accounts, app."""

    folder: Path
    study: Study = field(default_factory=Study)
    allocation: AllocationSettings = field(default_factory=AllocationSettings)
    port: int = 0

    def open(self, records: Sequence[PreferenceRecord] = ()) -> None:
        """Opens desk and accounts; records become items."""
        question = self.study.question
        self.desk = Desk(
            self.folder / "annotations.sqlite",
            self.allocation,
            strength_of=question.steps() or None,
            guideline=self.study.guideline_version(),
            code=self.study.annotate.completion_code,
        )
        self.desk.add_items(records)
        self.seals = Seals(KEY, self.study.annotate.session_hours)
        self.accounts = Accounts(self.desk, self.seals)
        self._app: Guard | None = None

    def app(self) -> Guard:
        """The app under the address that it is served at."""
        if self._app is None:
            self._app = build_app(self.desk, self.accounts, self.seals, self.study, self.origins())
        return self._app

    def origins(self) -> list[str]:
        """As people type them."""
        return origins(self.study.annotate, self.port)

    def link(self, name: str = "anna", role: str = "annotator") -> str:
        """A personal link."""
        return f"{self.origins()[0]}/in/{self.accounts.invite(role, name)}"  # type: ignore[arg-type]

    def said(self) -> list[tuple[str, str, str]]:
        """Choice, reason and flag of every revision, in the order in which they came."""
        from sqlalchemy import select

        from align.annotate.schema import revisions

        with self.desk.database.reading() as connection:
            rows = connection.execute(select(revisions).order_by(revisions.c.id)).all()
        return [(row.choice, row.details.get("reason", ""), row.details.get("flag") or "") for row in rows]

    def serve(self) -> None:
        """Starts to listen, at the port of before where there was one."""
        settings = replace(self.study.annotate, port=self.port)
        listening = listen(settings)
        self.port = listening.getsockname()[1]
        self._server = server(self.app(), settings)
        run = {"sockets": [listening]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the server as a kill would, as far as browsers can tell: connections are cut."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


@contextmanager
def serving(place: Place, records: Sequence[PreferenceRecord]) -> Iterator[Place]:
    """A study with these items, served until the end of the block."""
    place.open(records)
    place.serve()
    try:
        yield place
    finally:
        place.stop()
        place.desk.close()
