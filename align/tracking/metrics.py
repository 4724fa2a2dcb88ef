"""``metrics.jsonl``, the truth about a run: one JSON object a logging step, appended, each step once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from align.errors import CheckpointError
from align.files import write_whole

PHASES = ("data", "forward", "backward", "optimiser")
"""What a training step is made of: drawing a batch; then, a micro-batch at a time, forward and backward; then
clipping and the optimiser's step."""

ROLLOUT_PHASES = ("sample", "score", "judge")
"""What an iteration of PPO has besides: sampling replies, the reward model, then the passes of policy, critic
and reference before the first update."""

CLOCK_KEYS = frozenset(
    {"time", "examples_per_second", "tokens_per_second", "tokens_per_second/total"}
    | {"flops_per_second", "mfu", "memory_peak_mb"}
    | {f"time_share/{phase}" for phase in (*PHASES, *ROLLOUT_PHASES)}
)
"""Keys of a training's lines that the machine decides, not the seed; all others repeat to the last bit."""


class MetricsFile:
    """The open file. Lines are flushed as they are written, and on the disk after ``sync``."""

    def __init__(self, path: Path, *, after_step: int = 0) -> None:
        """Opens ``path`` to append, cut to the lines up to ``after_step`` (0 begins anew).

        Raises:
            CheckpointError: a line that should stay cannot be read.
        """
        cut(path, after_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line. Values are finite: a NaN is no JSON, and was refused before it came here."""
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class NoMetricsFile:
    """What ranks other than the first write: nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing to wait for."""

    def __enter__(self) -> NoMetricsFile:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""


def cut(path: Path, after_step: int) -> None:
    """Drops the lines past a step, and what a kill left of a last one; the file changes as a whole.

    Raises:
        CheckpointError: an unreadable line stands before one that should stay.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    kept, broken = 0, None
    end = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        end += len(line)
        step = _step_of(line)
        if step is None:
            broken = broken or number
        elif step <= after_step:
            if broken:
                raise CheckpointError(
                    f"{path}:{broken} is damaged, and lines after it belong to the steps up to {after_step}. "
                    f"Mend or remove that line, then resume=true goes on."
                )
            kept = end
    if kept < len(content):
        write_whole(path, content[:kept])


def _step_of(line: bytes) -> int | None:
    """A line's step, or None where the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(line)
    except ValueError:
        return None
    step = values.get("step") if isinstance(values, dict) else None
    return step if isinstance(step, int) else None
