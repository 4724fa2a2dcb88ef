"""What lies in a folder of runs: one line each, newest last, whatever became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.comparison.groups import rank_of
from align.errors import AlignError, DataError
from align.report.files import read_results
from align.report.terminal import clipped, number
from align.run import read_record
from align.types import Result

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Listed:
    """One run directory."""

    directory: Path
    stage: str
    state: str
    """``completed``, ``running``, ``failed``, ``terminated``, or ``damaged``: its run.json cannot be read."""
    seed: int | None
    started: datetime | None
    seconds: float | None
    """How long it has worked, over all its sittings."""
    metrics: tuple[Result, ...]
    """The first of its results."""
    error: str | None


def listed(folder: Path, *, metrics: int, steps: bool, but: Path | None = None) -> list[Listed]:
    """Runs at any depth of a folder, by when they started; ``but`` is left out (who asks is a run too).

    Raises:
        DataError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise DataError(f"runs={folder}: no such folder; give the one that run directories lie in")
    places = [path.parent for path in sorted(folder.rglob("run.json")) if path.parent.resolve() != but]
    if not steps:
        places = [place for place in places if not (place.parent / "run.json").is_file()]
    if not places:
        raise DataError(f"runs={folder}: no run directory there (one holds run.json)")
    found = [read_listed(place, metrics) for place in places]
    return sorted(found, key=lambda one: one.started.timestamp() if one.started else 0.0)


def table(runs: Sequence[Listed], folder: Path, now: datetime) -> Table:
    """A row a run."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("run", "stage", "state", "seed", "age", "took", "results"):
        shown.add_column(name, overflow="fold", no_wrap=name in ("seed", "age", "took"))
    for one in runs:
        started = "" if one.started is None else span((now - one.started).total_seconds())
        took = "" if one.seconds is None else span(one.seconds)
        said = [f"{result.metric} {number(result.value)}" for result in one.metrics]
        last = ", ".join(said) if one.error is None else clipped(one.error.splitlines()[0], 80)
        place = one.directory.relative_to(folder) if one.directory != folder else Path(folder.name)
        seed = "" if one.seed is None else str(one.seed)
        shown.add_row(Text(str(place)), one.stage, one.state, seed, started, took, Text(last))
    return shown


def print_runs(runs: Sequence[Listed], folder: Path, now: datetime, console: Console | None = None) -> None:
    """The table, and how many there are of each state."""
    console = console or Console()
    console.print(table(runs, folder, now))
    states = [one.state for one in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    console.print(f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {counts}")


def span(seconds: float) -> str:
    """A time in its largest unit: ``45 s``, ``12 min``, ``3 h``, ``2 d``."""
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def read_listed(directory: Path, metrics: int) -> Listed:
    """One run directory, with the first of its results."""
    try:
        record = read_record(directory) or {}
        results = read_results(directory / "results.json") if (directory / "results.json").is_file() else []
    except AlignError as error:
        return Listed(directory, "", "damaged", None, None, None, (), str(error))
    first = sorted(results, key=lambda one: (rank_of(one.metric), one.metric))[:metrics]
    started = record.get("started")
    return Listed(
        directory=directory,
        stage=str(record.get("stage", "")),
        state=str(record.get("state", "unknown")),
        seed=record.get("seed"),
        started=datetime.fromisoformat(started) if started else None,
        seconds=record.get("seconds"),
        metrics=tuple(first),
        error=record.get("error"),
    )
