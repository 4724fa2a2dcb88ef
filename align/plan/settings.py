"""What ``stage=plan`` asks beside the words of the run that it plans; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from align.config import Range
from align.settings import PositiveInt


@dataclass(frozen=True)
class PlanSettings:
    """What the plan assumes that the run's own settings do not say."""

    prompt_share: Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)] = 0.5
    """Share of ``model.max_length`` that a prompt takes; its replies take the rest, each. Where replies are
    sampled, ``sampling.max_new_tokens`` says it."""
    ranks: PositiveInt | None = None
    """Ranks that share the model; none takes ``launch.nproc`` and ``launch.nodes``, or 1."""
    memory_gb: Annotated[float, Range(low=0, low_open=True)] | None = None
    """Memory of one device in GB (10^9 bytes); none asks the devices that are here."""
