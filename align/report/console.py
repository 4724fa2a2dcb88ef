"""What a run says while it works: plain lines, and a progress bar where there is a terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from align.distributed.world import world


def say(text: str) -> None:
    """One line to the user; of several ranks the first one speaks."""
    if world().leads:
        print(text, flush=True)


def step_heading(number: int, count: int, name: str, directory: Path) -> None:
    """Announces a pipeline's step."""
    say(f"\n[{number}/{count}] {name} -> {directory}")


class Progress:
    """A bar on a terminal; elsewhere a line at the end. A context manager."""

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._started = time.monotonic()
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty() and world().leads:
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = RichProgress(*columns, console=Console(), transient=True)
            self._bar.start()
            self._bar.add_task(self.label, total=self.total)
        return self

    def advance(self, count: int = 1) -> None:
        """This many more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        say(f"  {self.label}: {self.done} of {self.total} in {time.monotonic() - self._started:.1f} s")
