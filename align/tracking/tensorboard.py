"""Mirrors a run to TensorBoard's event files, and never stops it. Written against tensorboard 2.21."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.settings import PositiveInt
from align.tracking._link import Link

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Tensorboard"]


@dataclass(frozen=True)
class Tensorboard:
    """The tracker of ``tracking=tensorboard``: event files in ``tensorboard/`` of the run's directory."""

    rows: PositiveInt = 20
    """Rows of a table that are written, at most, as text."""

    @cached_property
    def _link(self) -> _Events:
        return _Events("tensorboard")

    @property
    def missed(self) -> int:
        """Calls that did not reach it since it failed."""
        return self._link.missed

    def start(self, run: Run) -> None:
        """Opens the folder, and writes the config as text."""
        self._link.attempt("start", lambda _: self._open(run))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl``. What a resumed run repeats takes the place of what was there."""

        def send(_: Any) -> None:
            writer = self._link.writer(step)
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            self._link.step = step

        self._link.send("log", send)

    def summary(self, values: Mapping[str, float]) -> None:
        """The run's final numbers, under ``results/`` at its last step."""

        def send(_: Any) -> None:
            for name, value in values.items():
                self._link.writer().add_scalar(f"results/{name}", value, self._link.step)

        self._link.send("summary", send)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The first rows as text, each with all its columns."""

        def send(_: Any) -> None:
            lines = [_code(row) for row in rows[: self.rows]]
            self._link.writer().add_text(name, "\n\n".join(lines), self._link.step)

        if rows:
            self._link.send("table", send)

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Where the product lies, as text."""
        said = _code({"name": name, "kind": kind, "path": str(path.resolve())})
        self._link.send("artifact", lambda _: self._link.writer().add_text(f"artifacts/{name}", said))

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        """What went in, as text."""
        said = _code({"name": name, "kind": kind, "path": str(path), "sha256": sha256})
        self._link.send("used", lambda _: self._link.writer().add_text(f"inputs/{name}", said))

    def finish(self, exit_code: int) -> None:
        """Writes what is still held back, and closes."""
        self._link.send("finish", lambda _: self._link.writer().close())
        self._link.run = None

    def _open(self, run: Run) -> None:
        try:
            import tensorboard  # noqa: F401  torch's writer stands on it
        except ModuleNotFoundError as error:
            raise RuntimeError("not installed: pip install 'align[tensorboard]'") from error
        folder = run.directory / "tensorboard"
        self._link.run = folder
        self._link.writer().add_text("config", _code(dict(run.config)))
        print(f"tensorboard: tensorboard --logdir {run.directory.parent}", file=sys.stderr)


@dataclass
class _Events(Link):
    """A folder of event files, and the one that is written to."""

    step: int = 0
    """The last step that was logged."""
    _writer: Any = None
    _has_steps: bool = False

    def writer(self, step: int | None = None) -> Any:
        """What writes; from the first step that is logged on, older events of later steps count no more."""
        from torch.utils.tensorboard import SummaryWriter

        if step is not None and not self._has_steps:
            if self._writer is not None:
                self._writer.close()
            self._writer, self._has_steps = SummaryWriter(str(self.run), purge_step=step), True
        if self._writer is None:
            self._writer = SummaryWriter(str(self.run))
        return self._writer


def _code(value: Mapping[str, Any]) -> str:
    """JSON as TensorBoard's text pages show it, indented by four."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())
