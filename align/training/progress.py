"""How far a run is, for the person who waits: a bar on a terminal, ten plain lines elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from align.distributed.world import world

Show = Callable[[int, Mapping[str, float]], None]
"""Called with the step just finished and the last line of metrics (empty before the first)."""

_SHOWN = {"loss": "loss", "grad_norm": "grad", "examples_per_second": "ex/s", "mfu": "mfu"}
_SHOWN |= {"validation": "val"}


@contextmanager
def progress(label: str, total: int, done: int) -> Iterator[Show]:
    """Yields a function to call after each step; ``done`` of ``total`` were taken in earlier sittings."""
    if not world().leads:
        yield lambda step, line: None
        return
    with _bar(label, total, done) if sys.stderr.isatty() else _lines(label, total, done) as show:
        yield show


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, numbers="")

        def show(step: int, line: Mapping[str, float]) -> None:
            bar.update(task, completed=step, numbers=in_words(line))

        yield show


@contextmanager
def _lines(label: str, total: int, done: int) -> Iterator[Show]:
    started = time.monotonic()

    def show(step: int, line: Mapping[str, float]) -> None:
        if step * 10 // total == (step - 1) * 10 // total:
            return
        left = (time.monotonic() - started) / (step - done) * (total - step)
        eta = timedelta(seconds=round(left))
        print(f"[{label}] step {step}/{total}  {in_words(line)}  eta {eta}", file=sys.stderr, flush=True)

    yield show


def in_words(line: Mapping[str, float]) -> str:
    """The few numbers of a line that say whether training is well: ``loss 0.693  grad 2.1``."""
    return "  ".join(f"{word} {line[name]:.4g}" for name, word in _SHOWN.items() if name in line)
