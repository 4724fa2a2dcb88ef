"""How a run is done again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ReproduceSettings:
    """A run that is done again."""

    changed: Literal["warn", "refuse"] = "warn"
    """What is done where code, versions, machine or inputs differ from the original's."""
