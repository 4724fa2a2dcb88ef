"""``python -m experiments.speed --data FILE``: measures, prints the table, writes the experiment's files."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.errors import AlignError
from align.files import write_json
from align.run import git_state, versions
from experiments import page
from experiments.speed import table
from experiments.speed.draw import draw
from experiments.speed.figures import PANELS, PPO_PANELS
from experiments.speed.rounds import PARTS, measured
from experiments.speed.work import MODELS, PPO_PARTS, Work, require_trl_ppo

HERE = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns an exit code."""
    options = _parser().parse_args(argv)
    try:
        _benchmark(options)
    except AlignError as error:
        print(f"speed: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _benchmark(options: argparse.Namespace) -> None:
    work = Work(
        data=str(Path(options.data).resolve()),
        dataset=options.dataset,
        rows=options.rows,
        model=options.model,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
        batch_size=options.batch_size,
        max_length=options.max_length,
        sets=tuple(options.sets),
        draws=options.steps,
        episodes=options.episodes,
        rollout=options.rollout,
    )
    out = Path(options.out)
    results = table.read(out / "results.json")
    parts = options.only or list(PARTS)
    if not set(parts).isdisjoint(PPO_PARTS):
        require_trl_ppo()
    table.require_same_work(results, work.key(), work.facts(), parts)
    if options.work:
        found, rounds = measured(work, parts, options.rounds, Path(options.work).resolve(), _say)
    else:
        with tempfile.TemporaryDirectory(prefix="align-speed-") as folder:
            found, rounds = measured(work, parts, options.rounds, Path(folder), _say)
    results = table.merged(results, work.key(), work.facts(), {**_circumstances(), **found}, rounds)
    _publish(results, out)


def _publish(results: table.Results, out: Path) -> None:
    """Prints the tables; writes results.json, the figure, and the README's tables where it stands there."""
    block = table.render(results)
    print(block)
    write_json(out / "results.json", results)
    measured = {part for entry in results.values() for part in entry["parts"]}
    for name, panels in (("speed.png", PANELS), ("ppo.png", PPO_PANELS)):
        if not measured.isdisjoint(panels):
            draw(results, out / name, panels)
    page.publish(out, "speed", block)


def _circumstances() -> dict[str, Any]:
    """When, and with which versions; a commit with changes on top is marked with a plus."""
    git, packages = git_state(), versions()
    commit = "none" if git is None else git["commit"][:12] + ("+" if git["dirty"] else "")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        **{name: packages.get(name, "absent") for name in ("torch", "transformers", "trl")},
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parts(text: str) -> list[str]:
    named = text.split(",")
    unknown = sorted(set(named) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return named


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.speed", description=__doc__)
    add = parser.add_argument
    add("--data", required=True, help="the file of pairs")
    add("--dataset", default="hh_rlhf", help="what reads it (a name in data/)")
    add("--rounds", type=_count, default=5, help="how often each side is measured")
    add("--rows", type=_count, default=256, help="pairs of one epoch, from the beginning of the file")
    add("--model", default="llama-12m", help=f"its shape: {', '.join(MODELS)}")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of both sides")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides")
    add("--threads", type=_count, default=2, help="of both sides")
    add("--batch-size", type=_count, default=8, help="pairs a step")
    add(
        "--max-length",
        type=_count,
        default=1024,
        help="tokens of prompt and reply; longer pairs are left out",
    )
    add("--sets", type=_count, nargs=2, default=(1_000, 100_000), metavar=("SMALL", "LARGE"),
        help="pairs of the two prepared sets")  # fmt: skip
    add("--steps", type=_count, default=100, help="drawn from each of them")
    add("--episodes", type=_count, default=128, help="prompts answered in PPO")
    add("--rollout", type=_count, default=64, help="of them in one iteration")
    add("--only", type=_parts, help=f"parts to measure, the others stay as they are: {','.join(PARTS)}")
    add("--out", default=str(HERE), help="the folder of results.json, the figures and README.md")
    add("--work", help="keeps models, runs and logs in this folder; none takes a temporary one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
