"""What every mirror shares: whatever its client does, the run goes on after one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from align.errors import Terminated

_log = logging.getLogger("align.tracking")


@dataclass
class Link:
    """What is open, and what went wrong; a tracker itself is only settings."""

    client: str
    """Its name, for the warning."""
    run: Any = None
    """The client's own run; None before it is open, and after a failure."""
    failed: bool = False
    missed: int = 0
    """Calls that did not reach the client since it failed."""

    def send(self, what: str, call: Callable[[Any], object]) -> None:
        """Calls with the open run, where there is one."""
        if self.run is not None:
            self.attempt(what, call)
        elif self.failed:
            self.missed += 1

    def attempt(self, what: str, call: Callable[[Any], object]) -> None:
        """Calls; after a failure there is one warning, and no further call."""
        try:
            call(self.run)
        except Terminated:
            raise
        except Exception as error:  # whatever a mirror does, the run goes on
            said = (str(error).splitlines() or [""])[0][:200]
            _log.warning(
                "%s failed at %s (%s: %s); the run goes on without it, metrics.jsonl has everything",
                self.client,
                what,
                type(error).__name__,
                said,
            )
            self.run, self.failed, self.missed = None, True, self.missed + 1
