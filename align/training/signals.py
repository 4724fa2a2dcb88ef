"""SIGTERM asks a run to finish its step; schedulers send it some seconds before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM arrived; puts the former handler back at the end.

    Outside the main thread, where Python allows no handler, it always says no.
    """
    arrived = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        arrived.set()

    if threading.current_thread() is not threading.main_thread():
        yield arrived.is_set
        return
    former = signal.signal(signal.SIGTERM, note)
    try:
        yield arrived.is_set
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)
