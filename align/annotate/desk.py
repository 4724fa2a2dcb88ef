"""The desk: hands out items, takes answers and keeps them. All that the pages ask; safe for many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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
from align.types import PreferenceRecord


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

    def close(self) -> None:
        """Waits for what is being written, then closes. Whoever asks afterwards gets a ``StoreError``."""

    def enrol(self, pseudonym: str) -> str:
        """Lets somebody in; returns the name that all other calls take. The same pseudonym is the same person."""

    def serve(self, annotator: str) -> Task | Finished | Paused:
        """What the annotator has open, or the next item. Raises ``Refused`` (``unknown_annotator``)."""

    def submit(self, annotator: str, answer: Answer) -> Receipt:
        """Keeps an answer; returns once it is on disk.

        The same key, or the same content as the assignment's current answer, is the same receipt; other
        content is a new revision. Raises ``Refused`` (``unknown_assignment``: not this annotator's).
        """

    def undo(self, annotator: str) -> Task:
        """Takes the annotator's last answer back (a revision like any other) and serves its item again.

        Raises ``Refused`` (``nothing_to_undo``).
        """

    def progress(self, annotator: str) -> Progress:
        """How far the annotator is."""

    def add_items(self, records: Iterable[PreferenceRecord], kind: Kind = "ordinary") -> Imported:
        """Adds records (or candidate pairs) as items, a chunk a transaction, while annotating goes on."""

    def pause(self, reason: str, annotator: str | None = None) -> None:
        """Serves nothing more to one annotator, or to anybody; what is open may still be answered."""

    def resume(self, annotator: str | None = None) -> None:
        """Takes a pause back."""

    def annotators(self) -> list[AnnotatorStatus]:
        """Everybody, in the order of enrolment."""

    def status(self) -> ProjectStatus:
        """Items, votes and what is still wanted."""

    def events(self) -> list[Event]:
        """What happened, oldest first."""

    def answers(self) -> Iterator[Vote]:
        """Every assignment that was ever answered, with its current answer, skipped and undone ones included."""

    def export(self, checks: bool = False) -> Iterator[PreferenceRecord]:
        """One record for each current answer, from one snapshot; with ``checks``, gold, repeats and all."""

    def left_out(self) -> LeftOut:
        """What ``export()`` leaves out."""

    def write(self, folder: Path) -> int:
        """Writes ``export()`` as records.jsonl and its manifest; returns how many."""
