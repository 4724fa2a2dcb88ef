"""A submitted run at work on its node: ``python -m align.distributed.job FILE``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from align.answer import answered
from align.distributed.parent import die_with_parent
from align.distributed.start import start
from align.typed import read_resolved


def main(file: Path) -> int:
    """Does the work that stands in a file; returns its exit code."""
    die_with_parent(os.getppid())
    return answered(lambda: start(read_resolved(file)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
