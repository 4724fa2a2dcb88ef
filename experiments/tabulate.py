"""A table over runs: ``python experiments/tabulate.py FOLDER METRIC [METRIC ...]``.

FOLDER holds one run a folder (what ``python -m align -m`` leaves). Prints a Markdown table, one line a run,
each number with its 95 % interval, and writes all results as FOLDER/results.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from align.report.files import read_results
from align.types import Result


def table(folder: Path, metrics: Sequence[str]) -> str:
    """One line a run, in the order of their names; a run without a metric shows a dash."""
    lines = ["| run | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for run, results in runs(folder).items():
        found = {result.metric: result for result in results}
        cells = [cell(found[name]) if name in found else "-" for name in metrics]
        lines.append(f"| {run} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def runs(folder: Path) -> dict[str, list[Result]]:
    """The results of each whole run under a folder."""
    return {path.parent.name: read_results(path) for path in sorted(folder.glob("*/results.json"))}


def cell(result: Result) -> str:
    """``0.81 (0.75 to 0.86)``; the value alone where it has no interval."""
    if result.ci_low is None or result.ci_high is None:
        return f"{result.value:.3f}"
    return f"{result.value:.3f} ({result.ci_low:.3f} to {result.ci_high:.3f})"


if __name__ == "__main__":
    root = Path(sys.argv[1])
    print(table(root, sys.argv[2:]))
    everything = {run: [asdict(result) for result in results] for run, results in runs(root).items()}
    (root / "results.json").write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
