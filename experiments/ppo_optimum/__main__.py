"""``python -m experiments.ppo_optimum``: runs the stages on the tasks, prints the table, writes the files."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from align.files import write_json
from experiments import page
from experiments.ppo_optimum.draw import draw
from experiments.ppo_optimum.runs import METHODS, Reached, prepare, reached
from experiments.ppo_optimum.task import ONE_TOKEN, SHORT

TASKS = (ONE_TOKEN, SHORT)
HERE = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs every method on every task and seed; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ppo_optimum", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one core (default 1)")
    parser.add_argument("--work", help="keep the runs in this folder, and go on with what lies there")
    parser.add_argument("--out", default=str(HERE), help="where README.md and results.json lie")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="align-optimum-") as folder:
        work = Path(options.work or folder).resolve()
        for task in TASKS:
            prepare(task, work)
        wanted = [
            (task, method, seed) for task in TASKS for method in METHODS for seed in range(options.seeds)
        ]
        # of one core each, as what they find then does not depend on how many run
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            found = list(pool.map(reached, *zip(*wanted, strict=True), itertools.repeat(work)))
    text = table(found)
    print(text)
    publish(found, text, Path(options.out))
    return 0 if all(one.within for one in found) else 1


def table(found: Sequence[Reached]) -> str:
    """One line a run, in Markdown."""
    lines = [
        "| task | stage | seed | KL to the optimum, nats (at most 0.005) "
        "| objective short of the best (at most 0.001) | drift, nats | drift of the optimum |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        short = one.distance.best - one.distance.objective
        mark = "" if one.within else " (missed)"
        lines.append(
            f"| {one.task.name} | {one.method.name} | {one.seed} | {one.distance.kl:.5f}{mark} | {short:.5f} "
            f"| {one.distance.drift:.3f} | {one.distance.best_drift:.3f} |"
        )
    return "\n".join(lines)


def publish(found: Sequence[Reached], text: str, out: Path) -> None:
    """Writes results.json, the figure, and the table into README.md between its marks."""
    write_json(out / "results.json", [one.plain() for one in found])
    draw(found, out / "optimum.png")
    page.publish(out, "ppo_optimum", text)


if __name__ == "__main__":
    sys.exit(main())
