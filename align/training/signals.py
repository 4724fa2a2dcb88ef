"""SIGTERM asks a run to end; schedulers send it some seconds before they kill.

While a model is trained, the step is finished and saved first; at any other time the run stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from align.errors import Terminated


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Inside, SIGTERM raises ``Terminated`` wherever the run is; puts the former handler back at the end.

    Outside the main thread, where Python allows no handler, it does nothing.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated("SIGTERM: stopped; the same command with resume=true goes on from what is saved")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM arrived; puts the former handler back at the end.

    Where SIGTERM arrived and nobody ended the block because of it (it was over anyway), that handler is
    called then. Outside the main thread, where Python allows no handler, it always says no.
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
    if arrived.is_set():
        signal.raise_signal(signal.SIGTERM)
