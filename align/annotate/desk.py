"""The desk: hands out items, takes answers and keeps them. All that the pages ask; safe for many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from align.annotate import tell
from align.annotate.allocate import PAUSE, next_task, open_task
from align.annotate.answers import take, take_back
from align.annotate.database import Database, fact, set_fact
from align.annotate.items import add, attention_checks, settle_all
from align.annotate.places import Project, note
from align.annotate.places import annotator as find
from align.annotate.schema import annotators, assignments
from align.annotate.settings import AllocationSettings
from align.annotate.types import (
    AnnotatorStatus,
    Answer,
    Event,
    Finished,
    Imported,
    Kind,
    LeftOut,
    Paused,
    Progress,
    ProjectStatus,
    Receipt,
    Task,
    Vote,
)
from align.pairs.records import write_records
from align.types import CandidatePair, PreferenceRecord

T = TypeVar("T")


class Desk:
    """One project's items, annotators and answers. An annotator is known by the pseudonym of records."""

    def __init__(
        self,
        url: str | Path,
        settings: AllocationSettings,
        *,
        strength_of: int | None = None,
        guideline: str | None = None,
        code: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens (or makes) the database: a file's path, or an SQLAlchemy URL.

        Args:
            settings: Who is asked what.
            strength_of: Steps of the scale on one side, where a choice has a strength.
            guideline: Version of the guidelines, written to every answer.
            code: The completion code of ``Finished``.
            clock: Seconds since 1970.

        Raises:
            StoreError: it cannot be reached, or is of another version.
        """
        self.database = Database(url)
        self._settings = settings
        self._code = code
        self._clock = clock
        self._open = tell.OpenItems()
        try:
            secret: str = self.database.write(lambda connection: fact(connection, "secret"))
            self._project = Project(settings, secret, strength_of, guideline)
            self.database.write(self._follow_settings)
            if settings.attention_share:
                self._add_checks()
        except BaseException:
            self.database.close()
            raise

    @property
    def settings(self) -> AllocationSettings:
        """Who is asked what, and the thresholds."""
        return self._settings

    def close(self) -> None:
        """Waits for what is being written, then closes. Whoever asks afterwards gets a ``StoreError``."""
        self.database.close()

    def enrol(self, pseudonym: str) -> str:
        """Lets somebody in; returns the name that all other calls take. The same name is the same person."""

        def job(connection: Connection) -> None:
            known = connection.execute(select(annotators.c.id).where(annotators.c.name == pseudonym)).first()
            if known is None:
                now = self._clock()
                connection.execute(insert(annotators).values(name=pseudonym, enrolled_at=now, judged_from=0))
                note(connection, now, "enrolled", {}, find(connection, pseudonym).id)

        self.database.write(job)
        return pseudonym

    def serve(self, annotator: str) -> Task | Finished | Paused:
        """What the annotator has open, or the next item. Raises ``Refused`` (``unknown_annotator``)."""
        with self.database.reading() as connection:
            found = open_task(connection, annotator, self._clock(), self._settings.lease_minutes * 60)
        if found is not None:
            return found
        return self.database.write(
            lambda connection: next_task(connection, self._project, annotator, self._clock(), self._code)
        )

    def submit(self, annotator: str, answer: Answer) -> Receipt:
        """Keeps an answer; returns once it is on disk.

        The same key, or the same content as the assignment's current answer, is the same receipt; other
        content is a new revision. Raises ``Refused`` (``unknown_assignment``: not this annotator's).
        """
        return self.database.write(
            lambda connection: take(connection, self._project, annotator, answer, self._clock())
        )

    def exchange(self, annotator: str, answer: Answer) -> tuple[Receipt, Task | Finished | Paused]:
        """``submit``, then ``serve``, for the price of one: both are on disk with one flush."""

        def job(connection: Connection) -> tuple[Receipt, Task | Finished | Paused]:
            now = self._clock()
            receipt = take(connection, self._project, annotator, answer, now)
            return receipt, next_task(connection, self._project, annotator, now, self._code)

        return self.database.write(job)

    def undo(self, annotator: str, assignment: str | None = None) -> Task:
        """Takes an answer back (a revision like any other) and serves its item again, with the same sides.

        Without an assignment it is the annotator's latest answer; with one, a retry takes back nothing more.
        Raises ``Refused`` (``nothing_to_undo``, ``unknown_assignment``).
        """
        return self.database.write(
            lambda connection: take_back(connection, self._project, annotator, assignment, self._clock())
        )

    def progress(self, annotator: str) -> Progress:
        """How far the annotator is. Raises ``Refused`` (``unknown_annotator``)."""
        with self.database.reading() as connection:
            return tell.progress(connection, annotator, self._settings.items_per_annotator, self._open)

    def add_items(
        self, pairs: Iterable[PreferenceRecord | CandidatePair], kind: Kind = "ordinary"
    ) -> Imported:
        """Adds records or unjudged pairs as items, a chunk a transaction, while annotating goes on.

        What they prefer is hidden from annotators; of gold items it is the right answer.
        """
        return add(self.database.write, pairs, kind, self._project, self._clock)

    def pause(
        self, reason: str, annotator: str | None = None, *, why: str | None = None, by: str = "admin"
    ) -> None:
        """Serves nothing more to one annotator, or to anybody; what is open may still be answered.

        The reason is shown to whom it concerns; ``why`` (the reason, unless given) only to admins.
        """
        self._set_pause({"reason": reason, "why": why or reason}, annotator, by)

    def resume(self, annotator: str | None = None) -> None:
        """Takes a pause back. Checks that the annotator failed before do not count towards the next."""
        self._set_pause(None, annotator, "admin")

    def annotators(self) -> list[AnnotatorStatus]:
        """Everybody, in the order of enrolment."""
        with self.database.reading() as connection:
            return tell.everybody(connection)

    def status(self) -> ProjectStatus:
        """Items, votes and what is still wanted."""
        with self.database.reading() as connection:
            return tell.status(connection)

    def events(self) -> list[Event]:
        """What happened, oldest first."""
        with self.database.reading() as connection:
            return tell.happened(connection)

    def version(self) -> int:
        """A number that grows with every answer and event, for whoever keeps what was computed from them."""
        with self.database.reading() as connection:
            return tell.version(connection)

    def answers(self) -> Iterator[Vote]:
        """Every assignment that was ever answered with its current answer, skipped and undone ones too."""
        with self.database.reading() as connection:
            yield from tell.votes(connection)

    def export(self, checks: bool = False) -> Iterator[PreferenceRecord]:
        """One record for each current answer, from one snapshot; with ``checks``, gold, repeats and all.

        What is no vote on its pair says so in ``details["not_a_vote"]``: gold, attention, repeat, surplus.
        """
        with self.database.reading() as connection:
            yield from tell.records(connection, checks)

    def left_out(self) -> LeftOut:
        """What ``export()`` leaves out."""
        with self.database.reading() as connection:
            return tell.left_out(connection)

    def write(self, folder: Path) -> int:
        """Writes ``export()`` as records.jsonl and its manifest; returns how many."""
        return write_records(folder, self.export())

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of the database, for tables of other files; it waits for none."""
        return self.database.reading()

    def write_in(self, job: Callable[[Connection], T]) -> T:
        """Runs a job in the one writer's next transaction; returns what it returned, once that is on disk."""
        return self.database.write(job)

    def _follow_settings(self, connection: Connection) -> None:
        """Keeps a snapshot of the settings; where they have changed, holds every item against them."""
        now = {
            "allocation": asdict(self._settings),
            "guideline": self._project.guideline,
            "strength_of": self._project.strength_of,
        }
        before = fact(connection, "settings")
        if now == before:
            return
        set_fact(connection, "settings", now)
        note(connection, self._clock(), "settings", now)
        if before is not None:
            settle_all(connection, self._project)

    def _add_checks(self) -> None:
        if not self.status().items["attention"]:
            self.add_items(attention_checks(), "attention")

    def _set_pause(self, pause: dict[str, str] | None, name: str | None, by: str) -> None:
        what = "resumed" if pause is None else "paused"
        details = {"by": by, **(pause or {})}

        def job(connection: Connection) -> None:
            if name is None:
                set_fact(connection, PAUSE, pause)
                note(connection, self._clock(), what, details)
                return
            who = find(connection, name)
            values: dict[str, Any] = {"paused": pause}
            if pause is None:
                latest = select(func.max(assignments.c.number)).where(assignments.c.annotator == who.id)
                values["judged_from"] = connection.execute(latest).scalar() or 0
            connection.execute(update(annotators).where(annotators.c.id == who.id).values(**values))
            note(connection, self._clock(), what, details, who.id)

        self.database.write(job)
