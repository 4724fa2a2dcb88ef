"""When to stop looking for something better, and which step was best."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BestSoFar:
    """The best validation value so far (higher is better), its step, and the looks since then."""

    value: float | None = None
    step: int | None = None
    looks_since: int = 0

    def after(self, value: float, step: int) -> BestSoFar:
        """The state after one more look; an equal value is no improvement, so the earlier step stays."""
        if self.value is None or value > self.value:
            return BestSoFar(value=value, step=step)
        return BestSoFar(value=self.value, step=self.step, looks_since=self.looks_since + 1)

    def exhausted(self, patience: int | None) -> bool:
        """Whether ``patience`` looks (None: any number) went by without a better value."""
        return patience is not None and self.looks_since >= patience
