"""Where the time of one tiny run goes: ``python -m experiments.speed.startup WORDS`` prints it as JSON.

The same command that ``python -m align WORDS`` does, with its imports ahead of its work.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout


def main(words: Sequence[str]) -> dict[str, float]:
    """``config`` (Hydra's import and the typing), ``imports`` (torch and what comes with it), ``work``."""
    with redirect_stdout(sys.stderr):
        began = time.perf_counter()
        from align.compose import run_from

        run = run_from(words, [])
        composed = time.perf_counter()
        from align.sweeps.warm import warm

        warm()
        imported = time.perf_counter()
        run.execute()
        ended = time.perf_counter()
    return {"config": composed - began, "imports": imported - composed, "work": ended - imported}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
