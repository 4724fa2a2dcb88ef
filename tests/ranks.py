"""Runs commands on two ranks, several in one start, and compares what they wrote with what one rank did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tiny_runs import SHAPE, WORLD, lines

WORKER = Path(__file__).with_name("rank_commands.py")
CHUNK = 4000
"""Logits that exist at once: about ten tokens of the tiny vocabulary, so that ranks have unlike numbers of
chunks."""
STEPS = (
    "training.learning_rate=0.003",
    "training.warmup_steps=2",
    "training.log_every=1",
    "training.precision=float32",
)
PARTED = ("deepspeed=zero3", "deepspeed.whole_below=0")
"""ZeRO 3 with every weight in parts, the smallest ones too."""
RANKS = 2
SHORT = ("training.max_steps=8", "training.batch_size=9")
"""At once on one rank; on two, five and four."""
ROLLOUTS = ("training.max_steps=4", "training.batch_size=6", "sampling.max_new_tokens=10")
ROLLOUTS += ("evaluation.prompts=5", "evaluation.shown=1")
SAMPLING = ("ppo", "rloo", "grpo", "online_dpo")
STAGES = ("sft", "reward", "kto", *SAMPLING)


DRIFTS = ("kl", "rollout/kl")
DRIFT = 1e-4
"""A drift is the difference of two sums of some sixty nats, of which float32 keeps as much."""


@dataclass(frozen=True)
class Command:
    """One command, the code that it must end with, and [rank, step] of a SIGTERM on the way."""

    words: tuple[str, ...]
    code: int = 0
    sigterm: tuple[int, int] | None = None
    chunk: int = CHUNK


def start(worker: Path, place: Path, ranks: int = RANKS) -> subprocess.CompletedProcess[str]:
    """Runs a file of Python on ranks, a thread each, with ``place`` as its word; it must end well on all.

    No rank compiles anything: a first start takes no compiler, and no longer than the next.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    compiled = place.with_name("compiled")
    found = subprocess.run(
        [*launcher, str(worker), str(place)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(compiled)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-6000:]
    assert not compiled.exists()
    return found


def on_ranks(commands: Sequence[Command], folder: Path, ranks: int = RANKS) -> None:
    """Runs commands one after the other on the ranks of one start; each must end as it should, on each."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "commands.json"
    place.write_text(json.dumps([asdict(one) for one in commands]))
    found = start(WORKER, place, ranks)
    expected = [one.code for one in commands]
    for rank in range(ranks):
        codes = json.loads((folder / f"codes-{rank}.json").read_text())
        assert codes == expected, f"rank {rank}: {codes}\n{found.stdout[-3000:]}\n{found.stderr[-3000:]}"


def words(stage: str, directory: Path, *more: str, start: Path | None = None) -> tuple[str, ...]:
    """A short training on the embedded world, from ``start`` or from scratch."""
    model = (f"model.path={start}",) if start else SHAPE
    return (f"stage={stage}", f"run.dir={directory}", *model, *WORLD, *STEPS, *more)


def stages_of(root: Path, start: Path) -> dict[str, tuple[str, ...]]:
    """A command for each stage but DPO; those that sample start from ``start``'s policy and reward."""
    judge = f"reward.path={start / 'reward'}"

    def sampling(stage: str, *more: str) -> tuple[str, ...]:
        return words(stage, root / stage, *ROLLOUTS, judge, *more, start=start / "sft")

    return {
        "sft": words("sft", root / "sft", *SHORT),
        "reward": words("reward", root / "reward", *SHORT, "training.eval_every=4"),
        # the drift is estimated a micro-batch at a time: four replies, on each number of ranks
        "kto": words(
            "kto",
            root / "kto",
            "training.max_steps=8",
            "training.batch_size=8",
            "training.micro_batch_size=4",
        ),
        "early": words("dpo", root / "early", *SHORT, "training.eval_every=1", "training.early_stopping=2"),
        "ppo": sampling("ppo", "objective.minibatches=2", "objective.epochs=2"),
        "rloo": sampling("rloo", "objective.minibatches=3", "rollout.replies=2"),
        "grpo": sampling("grpo", "objective.minibatches=1", "rollout.replies=3"),
        "online_dpo": sampling("online_dpo"),
    }


def assert_same_path(one: Path, other: Path, steps: int) -> None:
    """Both logged every step, and agree in every number that a clock does not decide, to 1e-5."""
    mine, theirs = lines(one), lines(other)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs] == list(range(1, steps + 1))
    for line, twin in zip(mine, theirs, strict=True):
        assert line.keys() == twin.keys()
        # the tolerance is relative above 1: log-probabilities are sums of many
        off = {
            name: (value, twin[name])
            for name, value in line.items()
            if not np.isclose(twin[name], value, rtol=1e-5, atol=DRIFT if name in DRIFTS else 1e-5)
        }
        assert not off, f"step {line['step']}: {off}"
