"""Records while annotating goes on: the run's folder can be trained on before the last answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.annotate.desk import Desk
from align.errors import AlignError

EVERY = 60.0
"""Seconds between two looks for new answers."""
_SHARE = 20
"""An export that takes a second is made every 20 seconds at most: one in so many is spent on it."""


@contextmanager
def records_written(desk: Desk, folder: Path, every: float = EVERY) -> Iterator[None]:
    """Writes records.jsonl and its manifest in the background whenever there are new answers.

    A folder that cannot be written to is said in the log and tried again: the answers are in the database.
    The last write is the caller's, after the block.
    """
    over = threading.Event()

    def work() -> None:
        written, pause = -1, every  # what a killed run did not come to write is new, too
        while not over.wait(pause):
            start = time.monotonic()
            try:
                now = desk.version()
                if now != written:
                    desk.write(folder)
                    written = now
            except (AlignError, OSError) as error:
                logging.getLogger(__name__).warning("the records were not written to %s: %s", folder, error)
            pause = max(every, _SHARE * (time.monotonic() - start))

    thread = threading.Thread(target=work, name="annotate-records", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
