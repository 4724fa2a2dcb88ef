"""Pauses by habit: who takes one side, hurries, or contradicts himself beyond the thresholds.

Known answers are held against their thresholds at each answer (``answers.py``). A habit shows in the report
only, and is weaker evidence: it pauses an annotator once, and of whoever an admin lets go on the pages only
warn from then on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from align.annotate.answers import LOOKED_AT
from align.annotate.consistency import habits
from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from align.annotate.snapshot import Kept, Reports
from align.errors import AlignError

BY = "habit"
"""Who paused, in the event of it."""
EVERY = 20.0
"""Seconds between two looks."""


def to_pause(kept: Kept, settings: AllocationSettings) -> dict[str, str]:
    """Annotator -> why: those beyond a threshold who are not paused, and never were for a habit."""
    before = {event.annotator for event in kept.events if event.details.get("by") == BY}
    found = {}
    for person in kept.report.people:
        name = person.status.name
        if person.shown is None or person.status.paused or name in before:
            continue
        beyond = habits(person.shown, settings)
        if beyond:
            found[name] = "; ".join(beyond)
    return found


@contextmanager
def watched(desk: Desk, reports: Reports, every: float = EVERY) -> Iterator[None]:
    """Looks in the background until the end of the block; does nothing unless ``pause_beyond`` says so."""
    if not desk.settings.pause_beyond:
        yield
        return
    over = threading.Event()

    def work() -> None:
        while not over.wait(every):
            try:
                for name, why in to_pause(reports.newest(), desk.settings).items():
                    desk.pause(LOOKED_AT, name, why=why, by=BY)
                    reports.forget()
            except AlignError as error:
                logging.getLogger(__name__).warning("nobody's habits were looked at: %s", error)

    thread = threading.Thread(target=work, name="annotate-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
