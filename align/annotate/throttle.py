"""How often somebody may try a door: attempts that failed, counted by account and by address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_KEYS = 10_000
"""Accounts and addresses remembered; the longest untouched goes first, so that memory is bounded."""


class Throttle:
    """At most ``limit`` failures within ``window`` seconds for a key; safe for many threads."""

    def __init__(self, limit: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Seconds until this key may try again; 0 where it may now."""
        with self._lock:
            times = self._recent(key)
            return times[0] + self._window - self._clock() if len(times) >= self._limit else 0.0

    def failed(self, key: str) -> None:
        """Counts a failure."""
        with self._lock:
            times = self._recent(key)
            times.append(self._clock())
            self._failures[key] = times
            self._failures.move_to_end(key)
            while len(self._failures) > MOST_KEYS:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forgets a key's failures."""
        with self._lock:
            self._failures.pop(key, None)

    def _recent(self, key: str) -> deque[float]:
        times = self._failures.get(key, deque())
        oldest = self._clock() - self._window
        while times and times[0] <= oldest:
            times.popleft()
        return times
