"""``python -m experiments.plan``: plans and runs each case; writes results, figure and the README's table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.files import write_json
from align.run import versions
from experiments import page
from experiments.plan.cases import CASES, Case, write_pairs
from experiments.plan.shown import draw, table

HERE = Path(__file__).resolve().parent
STEPS = 2
"""From the second step on the optimiser's moments are there."""
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Lets the C library give back at once what is freed, so that the resident set is what is in use. Otherwise
it keeps freed memory for later, as much as it happens to."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is not in results.json yet."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plan", description=__doc__)
    parser.add_argument("--out", default=str(HERE), help="folder of results.json, plan.png and README.md")
    parser.add_argument("--only", nargs="*", help="words that a case's name must hold")
    parser.add_argument("--again", action="store_true", help="plan anew what was measured; keep its peaks")
    options = parser.parse_args(argv)
    out = Path(options.out)
    kept = out / "results.json"
    found: dict[str, Any] = json.loads(kept.read_text("utf-8"))["cases"] if kept.exists() else {}
    for case in CASES:
        if (case.name in found) != options.again:
            continue
        if options.only and not all(word in case.name for word in options.only):
            continue
        print(case.name, flush=True)
        kept_peak = found[case.name]["measured"] if options.again else None
        found[case.name] = measured(case, kept_peak)
        write_json(kept, {"cases": found, "versions": versions(), "steps": STEPS})
    found = {case.name: found[case.name] for case in CASES if case.name in found}
    draw(found, out / "plan.png")
    text = table(found)
    print(text)
    page.publish(out, "plan", text)
    return 0


def measured(case: Case, peak: float | None = None) -> dict[str, float]:
    """Planned and measured peaks of a case, in MB (10^6 bytes); it is not run where its peak is given."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_pairs(place / "pairs.jsonl")
        words = [*case.command(place / "pairs.jsonl"), f"run.cache={place / 'cache'}"]
        _align("stage=plan", f"of={case.stage}", f"run.dir={place / 'plan'}", *words, **AT_ONCE)
        plan = json.loads((place / "plan" / "plan.json").read_text("utf-8"))["plans"][0]
        measured_mb = _peak(case, words, place / "run") if peak is None else peak
    row = plan["run"]
    parts = ("weights", "gradients", "optimiser", "activations", "others", "kv_cache", "total")
    return {**{part: row[part] / 1e6 for part in parts}, "measured": measured_mb}


def _peak(case: Case, words: Sequence[str], run: Path) -> float:
    _align(
        f"stage={case.stage}", f"run.dir={run}", *words, f"training.max_steps={STEPS}",
        "training.log_every=1", **AT_ONCE,
    )  # fmt: skip
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(lines[-1])["memory_peak_mb"])


def _align(*words: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "align", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
