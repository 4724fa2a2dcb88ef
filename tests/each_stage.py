"""What the ranks of a test do under each stage of ZeRO, one after the other, and where they write it down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.distributed.world import joined

STAGES = (0, 1, 2, 3)


def write_each_stage(place: Path, name: str, work: Callable[[int], Any]) -> int:
    """Writes ``NAME-RANK.json``: what the work comes to, by stage. Returns the exit code."""
    with joined(timeout=300) as world:
        found = {str(stage): work(stage) for stage in STAGES}
    (place / f"{name}-{world.rank}.json").write_text(json.dumps(found))
    return 0
