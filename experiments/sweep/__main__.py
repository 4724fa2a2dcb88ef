"""``python -m experiments.sweep``: trains, sweeps, compares; writes the README's tables and figures."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from align.errors import AlignError
from align.files import write_json
from align.run import versions
from experiments import page
from experiments.sweep.runs import Size, run
from experiments.sweep.table import text_of

HERE = Path(__file__).resolve().parent
FIGURES = ("frontier", "overoptimisation", "differences", "curves", "calibration", "lineage")
"""Of the comparison's page, those that the README shows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is left to run; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sweep", description=__doc__)
    parser.add_argument("--work", default="runs/sweep", help="where the runs lie; what is whole there stays")
    parser.add_argument("--out", default=str(HERE), help="where README.md, results.json and figures lie")
    options = parser.parse_args(argv)
    try:
        publish(run(Path(options.work).resolve(), Size()), Path(options.out))
    except AlignError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def publish(comparison: Path, out: Path) -> None:
    """Prints the table; writes results.json, the figures, and the table into README.md between its marks."""
    found = json.loads((comparison / "compare.json").read_text(encoding="utf-8"))
    jobs = json.loads((comparison.parent / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    known = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "versions": versions()}
    text = text_of(found, jobs, known)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    results = json.loads((comparison / "results.json").read_text(encoding="utf-8"))
    write_json(
        out / "results.json", {"circumstances": known, "in_short": found["in_short"], "results": results}
    )
    for name in FIGURES:
        shutil.copyfile(comparison / "figures" / f"{name}.png", out / f"{name}.png")
    page.publish(out, "sweep", text)


if __name__ == "__main__":
    sys.exit(main())
