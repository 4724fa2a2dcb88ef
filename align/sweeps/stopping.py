"""Ctrl-C and SIGTERM, noted: a sweep's jobs save and end before it does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stopping:
    """Whether somebody asked."""

    asked: int = 0
    """The signal that came first; 0 where none did."""
    times: int = 0
    """A second one asks not to wait."""


@contextmanager
def asked_to_stop() -> Iterator[Stopping]:
    """Inside, SIGINT and SIGTERM are noted; not outside the main thread, where Python allows no handler."""
    found = Stopping()

    def note(number: int, frame: FrameType | None) -> None:
        found.asked = found.asked or number
        found.times += 1

    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
