"""Sums and counts since the last line of ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Meter:
    """Name -> (sum, count). Python floats, so that a resumed run continues with the very same bits."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, name: str, total: float, count: float) -> None:
        """Counts ``total``, the sum over ``count`` units."""
        before, counted = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (before + total, counted + count)

    def means(self) -> Mapping[str, float]:
        """sum / count of all that was counted; a metric that counted nothing has no mean and is left out."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}

    def clear(self) -> None:
        """Begins the next line."""
        self.sums.clear()
