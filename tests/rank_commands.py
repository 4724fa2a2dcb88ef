"""What each rank of a test does: run the commands of a file, one after the other, in one process.

A start takes ten seconds, most of them imports; so many checks share one. Not a test: ``ranks.py`` starts it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main(place: Path) -> int:
    """Writes each command's exit code to ``codes-RANK.json``; ends at the first that is not as expected."""
    from little_drawn import draw_little

    from align.__main__ import main as command
    from align.distributed.world import joined
    from align.packing import head
    from align.training import loop

    draw_little()
    codes: list[int] = []
    take_step = loop._take_step
    with joined(timeout=300) as world:
        for wanted in json.loads(place.read_text()):
            head.CHUNK = dict.fromkeys(head.CHUNK, wanted["chunk"])
            loop._take_step = _struck(take_step, wanted["sigterm"], world.rank)
            codes.append(command(wanted["words"]))
            if codes[-1] != wanted["code"]:
                break
    place.with_name(f"codes-{world.rank}.json").write_text(json.dumps(codes))
    return 0


def _struck(take_step: Any, at: list[int] | None, rank: int) -> Any:
    """A step during which SIGTERM reaches one rank: ``at`` is [rank, step]."""

    def step(job: Any) -> Any:
        if at == [rank, job.counters.step]:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(job)

    return step


if __name__ == "__main__":
    from align.distributed.rank import end

    end(main(Path(sys.argv[1])))
