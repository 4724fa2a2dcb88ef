"""The command itself on models of a few thousand weights: what the tests of whole runs share."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from align.__main__ import main
from align.errors import Terminated
from align.tracking.metrics import CLOCK_KEYS

SHAPE = (
    "model.scratch.hidden_size=32",
    "model.scratch.layers=2",
    "model.scratch.heads=2",
    "model.scratch.mlp_size=48",
    "model.scratch.vocab_size=400",
)
"""A policy of some thirty thousand weights."""
WORLD = ("dataset.pairs=160", "dataset.prompts=80", "model.max_length=192")
"""Few enough pairs to be read in half a second; no prompt is cut."""
STEPS = (
    "training.max_steps=6",
    "training.batch_size=8",
    "training.learning_rate=0.003",
    "training.warmup_steps=2",
    "training.log_every=1",
    "training.save_every=2",
    "training.precision=float32",
)
"""Six steps, each logged, every second one saved; the rate rises and falls. In the same numbers anywhere."""
SAMPLING = ("sampling.max_new_tokens=12", "evaluation.prompts=6", "evaluation.shown=1")
"""Six prompts, answered in twelve tokens."""


def align(*words: str) -> None:
    """Runs one command in this process, to its end."""
    code = main(words)
    assert code == 0, f"exit code {code} of: {' '.join(words)}"


def stopped(*words: str, owner: Any, name: str, call: int, after: bool = False) -> None:
    """The command, ended as by SIGTERM at that call (1-based) of ``owner.name``, or once it is done."""
    real, calls = getattr(owner, name), itertools.count(1)

    def stopping(*arguments: Any) -> Any:
        stops = next(calls) == call
        found = None if stops and not after else real(*arguments)
        if stops:
            raise Terminated("SIGTERM")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopping)
        assert main(list(words)) == Terminated.exit_code


def train(stage: str, directory: Path, *words: str, start: Path | None = None) -> Path:
    """A short training on the embedded world, from ``start`` or from scratch; returns its directory."""
    model = [f"model.path={start}"] if start else SHAPE
    align(f"stage={stage}", f"run.dir={directory}", *model, *WORLD, *STEPS, *words)
    return directory


def evaluate(directory: Path, policy: Path, reference: Path, *words: str) -> Path:
    """A short evaluation on the embedded world; returns its directory."""
    align("stage=evaluate", f"run.dir={directory}", f"model.path={policy}", f"reference.path={reference}",
          *WORLD, *SAMPLING, *words)  # fmt: skip
    return directory


def lines(directory: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl`` without what a clock decides."""
    kept = (json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in CLOCK_KEYS} for line in kept]


def losses(directory: Path) -> list[float]:
    """The loss of each logged step."""
    return [line["loss"] for line in lines(directory)]


def record(directory: Path) -> dict[str, Any]:
    """What run.json holds."""
    found: dict[str, Any] = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    return found
