"""What a stage is given: its directory, its seed, where numbers go, and what it was started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from align.protocols import Stage, Tracker


@dataclass(frozen=True)
class Run:
    """One run of one stage.

    Everything that a run writes lies in ``directory``: config.yaml, run.json, metrics.jsonl,
    results.json, samples.jsonl, data_report.json, checkpoints/, model/, figures/.
    """

    directory: Path
    stage: Stage
    stage_name: str
    seed: int
    resume: bool
    tracker: Tracker
    config: Mapping[str, Any] = field(default_factory=dict)
    """The composed config as plain values, for the record; no stage reads it."""
    overrides: Sequence[str] = ()
    """What the user typed after ``python -m align``; a pipeline composes its steps from it."""
