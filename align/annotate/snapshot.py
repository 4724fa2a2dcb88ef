"""Reports from one read of the database, computed beside the annotators and kept while they hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from align.annotate import tell
from align.annotate.database import Database
from align.annotate.report import Report, build
from align.annotate.settings import AllocationSettings
from align.annotate.types import Event, Vote

LEAST_AGE = 3.0
"""Seconds for which a report is shown again whatever has come in since."""
REST = 4.0
"""Times as long as a report took to compute, for the same: statistics take a fifth of one core at most."""


@dataclass(frozen=True)
class Kept:
    """A report, what it rests on and what happened, as they stood at one moment."""

    report: Report
    votes: tuple[Vote, ...]
    events: tuple[Event, ...]
    """Newest first."""
    made_at: datetime
    version: int


class Reports:
    """The newest report. One thread computes at a time; the writer is never waited for, nor does it wait."""

    def __init__(
        self,
        database: Database,
        settings: AllocationSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Kept | None = None
        self._good_until = 0.0

    def newest(self) -> Kept:
        """The report of the present state, or one that is a few seconds old."""
        with self._lock:
            if self._kept is not None and self._clock() < self._good_until:
                return self._kept
            started = self._clock()
            with self._database.reading() as connection:
                version = tell.version(connection)
                if self._kept is not None and self._kept.version == version:
                    return self._kept
                votes = tuple(tell.votes(connection))
                everybody, status = tell.everybody(connection), tell.status(connection)
                events = tuple(reversed(tell.happened(connection)))
            report = build(votes, everybody, status, self._settings)
            self._kept = Kept(report, votes, events, datetime.now(UTC), version)
            took = self._clock() - started
            self._good_until = self._clock() + max(LEAST_AGE, REST * took)
            return self._kept

    def forget(self) -> None:
        """Makes the next report new: for whoever has just changed something and wants to see it."""
        with self._lock:
            self._good_until = 0.0
