"""The commands of the experiment: a policy and a reward model to start from, the sweep, its comparison."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align.errors import AlignError
from align.overrides import quoted

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Size:
    """What is swept, and how large the world and its models are."""

    losses: tuple[str, ...] = ("dpo", "ipo")
    betas: tuple[float, ...] = (0.03, 0.1, 0.3)
    seeds: tuple[int, ...] = (1, 2, 3)
    parallel: int = 2
    """Jobs at a time."""
    pairs: int = 6000
    """Of the embedded world; a prompt has two."""
    hidden: int = 96
    layers: int = 2
    heads: int = 4
    mlp: int = 256
    max_length: int = 160
    """Tokens of prompt and reply."""
    sft_epochs: float = 3.0
    reward_epochs: float = 1.5
    epochs: float = 0.8
    """Passes of DPO over the pairs."""
    unseen: int = 256
    """Prompts that each policy answers in the end."""


class CommandFailed(AlignError):
    """A command did not come to its end."""


def commands(work: Path, size: Size) -> dict[str, list[str]]:
    """The words after ``python -m align`` of each command, by the name of its folder."""
    world, sweep, comparison = (quoted(str(work / name)) for name in ("world", "sweep", "comparison"))
    common = [
        f"dataset.pairs={size.pairs}",
        f"dataset.prompts={size.pairs // 2}",
        f"model.max_length={size.max_length}",
        f"run.cache={quoted(str(work / 'cache'))}",
    ]
    return {
        "world": [
            "stage=pipeline",
            "order=[sft,reward]",
            *common,
            f"model.scratch.hidden_size={size.hidden}",
            f"model.scratch.layers={size.layers}",
            f"model.scratch.heads={size.heads}",
            f"model.scratch.mlp_size={size.mlp}",
            f"steps.sft.training.epochs={size.sft_epochs:g}",
            "steps.sft.training.learning_rate=0.003",
            f"steps.reward.training.epochs={size.reward_epochs:g}",
            f"run.dir={world}",
            "resume=true",
        ],
        "sweep": [
            "-m",
            "stage=pipeline",
            "order=[dpo,evaluate]",
            f"loss={','.join(size.losses)}",
            f"loss.beta={','.join(f'{beta:g}' for beta in size.betas)}",
            f"seed={','.join(map(str, size.seeds))}",
            *common,
            f"steps.dpo.model.path={quoted(str(work / 'world/sft'))}",
            f"steps.dpo.training.epochs={size.epochs:g}",
            f"steps.evaluate.reference.path={quoted(str(work / 'world/sft'))}",
            "steps.evaluate.reward=bradley_terry",
            f"steps.evaluate.reward.path={quoted(str(work / 'world/reward'))}",
            f"steps.evaluate.evaluation.prompts={size.unseen}",
            f"launch.parallel={size.parallel}",
            f"run.dir={sweep}",
        ],
        "comparison": [
            "stage=compare",
            f"runs={quoted(str(work / 'sweep/*/evaluate'))}",
            f"run.dir={comparison}",
        ],
    }


def run(work: Path, size: Size) -> Path:
    """All of it, or what is left of it, in processes of their own; returns the folder of the comparison.

    Raises:
        CommandFailed: a command ended with another exit code than 0.
    """
    work.mkdir(parents=True, exist_ok=True)
    for name, words in commands(work, size).items():
        if name == "comparison":  # of whatever the sweep holds now
            shutil.rmtree(work / name, ignore_errors=True)
        _align(words)
    return work / "comparison"


def _align(words: Sequence[str]) -> None:
    print(f"python -m align {' '.join(words)}", file=sys.stderr, flush=True)
    # of one thread each, so that what they find does not depend on how many cores there are
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "align", *words]
    code = subprocess.run(command, cwd=ROOT, env=one_thread, check=False).returncode
    if code:
        raise CommandFailed(f"exit code {code} of: python -m align {' '.join(words)}")
