"""``python -m experiments.comparison``: the scale, the coverage, the README's tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.errors import AlignError
from align.files import write_json
from align.run import git_state
from experiments import page
from experiments.comparison import coverage, scale
from experiments.comparison.intervals import SHOWN
from experiments.comparison.table import Found, merged, tables

HERE = Path(__file__).resolve().parent
PARTS = ("scale", *SHOWN, *coverage.TESTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment; returns an exit code."""
    options = _parser().parse_args(argv)
    parts = options.only or list(PARTS)
    out = Path(options.out)
    try:
        found: Found = coverage.measured(options.draws, parts, _say)
        if "scale" in parts:
            known = _circumstances()
            size = scale.Size(options.runs, options.lines, options.rounds)
            with tempfile.TemporaryDirectory(prefix="align-comparison-") as folder:
                found["scale"] = {**scale.measured(size, Path(folder), _say), "circumstances": known}
        results = out / "results.json"
        before = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        _publish(merged(before, found), out)
    except AlignError as error:
        print(f"comparison: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _publish(found: Found, out: Path) -> None:
    """Prints the tables; writes results.json, and the README's tables where it stands there."""
    text = tables(found)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", found)
    page.publish(out, "comparison", text)


def _circumstances() -> dict[str, Any]:
    git = git_state()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commit": "none" if git is None else git["commit"][:12] + ("+" if git["dirty"] else ""),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parts(text: str) -> list[str]:
    named = text.split(",")
    unknown = sorted(set(named) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return named


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.comparison", description=__doc__)
    add = parser.add_argument
    add("--only", type=_parts, help=f"parts to measure, the others stay as they are: {','.join(PARTS)}")
    add("--draws", type=int, default=1000, help="experiments an interval")
    add("--runs", type=int, default=200, help="runs that are compared, of each kind")
    add("--lines", type=int, default=10_000, help="lines of metrics a run")
    add("--rounds", type=int, default=3, help="how often the command is timed")
    add("--out", default=str(HERE), help="the folder of results.json and README.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
