"""No tracker: numbers stay in the run's own directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["NoTracker"]


@dataclass(frozen=True)
class NoTracker:
    """A null object, so that nobody asks whether there is a tracker."""

    def start(self, run: Run) -> None:
        """Does nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Does nothing."""

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Does nothing."""

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        """Does nothing."""

    def finish(self, exit_code: int) -> None:
        """Does nothing."""
