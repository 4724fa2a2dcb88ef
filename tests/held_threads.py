"""A thread beside the test's own that stands still, for what reads where threads are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_thread() -> Iterator[threading.Thread]:
    """A thread that waits in ``stands_here`` until the block is left."""
    holds, over = threading.Event(), threading.Event()

    def stands_here() -> None:
        holds.set()
        over.wait()

    thread = threading.Thread(target=stands_here)
    thread.start()
    holds.wait()
    try:
        yield thread
    finally:
        over.set()
        thread.join()
