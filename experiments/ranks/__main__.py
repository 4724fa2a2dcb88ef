"""``python -m experiments.ranks``: works on two ranks of this machine; writes the README's tables."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from align.errors import AlignError
from align.files import write_json
from align.run import versions
from experiments import page
from experiments.ranks import falls, steps
from experiments.ranks.table import tables

HERE = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ranks", description=__doc__)
    parser.add_argument("--out", default=str(HERE), help="the folder of results.json and README.md")
    out = Path(parser.parse_args(argv).out)
    try:
        with tempfile.TemporaryDirectory(prefix="align-ranks-") as folder:
            found = {
                "circumstances": {
                    "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "versions": versions(),
                },
                "steps": steps.measured(Path(folder), _say),
                **falls.measured(Path(folder), _say),
            }  # fmt: skip
    except AlignError as error:
        print(f"ranks: {error}", file=sys.stderr)
        return error.exit_code
    write_json(out / "results.json", found)
    text = tables(found)
    print(text)
    page.publish(out, "ranks", text)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
