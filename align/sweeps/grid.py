"""Every combination of the values that are listed, the first option slowest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from align.errors import ConfigError
from align.sweeps.jobs import Ended, Proposal, folder_name

if TYPE_CHECKING:
    from align.sweeps.axes import Swept

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """``sweep=grid``, which a sweep is where nothing else is said."""

    learns: ClassVar[bool] = False

    def begin(self, swept: Swept, root: Path) -> _Combinations:
        """The jobs in order. Raises ``ConfigError``: an interval, or two jobs with one folder."""
        from align.compose_sweep import refuse_intervals

        refuse_intervals(swept)
        proposals = [Proposal(folder_name(varied), varied) for varied in swept.products()]
        counts = Counter(one.name for one in proposals)
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise ConfigError(
                f"{counts[twice]} jobs would share the folder {root / twice}: a value stands twice"
            )
        return _Combinations(proposals)


@dataclass
class _Combinations:
    """What is left to propose."""

    waiting: list[Proposal]
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = len(self.waiting)

    def next(self) -> Proposal | None:
        return self.waiting.pop(0) if self.waiting else None

    def seen(self, proposal: Proposal, values: Sequence[tuple[int, float]]) -> str | None:
        """A grid stops no job."""
        return None

    def told(self, proposal: Proposal, ended: Ended, directory: Path) -> Ended:
        return ended

    def summary(self) -> list[str]:
        return []
