"""What a sweep says of its jobs, as they come and at the end."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from align.errors import AlignError
from align.files import write_json
from align.protocols import Proposals
from align.report.console import say
from align.report.files import read_metrics
from align.run import read_record
from align.sweeps.jobs import Job, Line


def say_begins(job: Job, total: int, *, skipped: bool) -> None:
    """One line before a job."""
    words = " ".join(job.varied)
    say(f"[{job.number}/{total}] {words} -> {job.directory}{', already whole, skipped' if skipped else ''}")


def say_ended(line: Line, total: int, *, alone: bool) -> None:
    """One line after a job, where its own output was not the last that was seen."""
    if line.ended.state != "skipped" and not (line.ended.state == "completed" and alone):
        why = f": {_first(line.ended.reason)}" if line.ended.reason else ""
        say(f"[{line.job.number}/{total}] {line.ended.state} after {line.seconds:.1f} s{why}")


def print_end(lines: Sequence[Line], root: Path, proposals: Proposals, *, stopped: bool) -> None:
    """The table of the jobs, what failed and why, what a search found, and what to type next."""
    from align.comparison.listing import print_runs, read_listed

    lines = sorted(lines, key=lambda line: line.job.number)
    write_json(root / "sweep.json", [_entry(line) for line in lines])
    runs = [
        read_listed(line.job.directory, 2) for line in lines if (line.job.directory / "run.json").is_file()
    ]
    if runs:
        print_runs(runs, root, datetime.now(UTC))
    done = [line for line in lines if line.ended.state in ("completed", "skipped")]
    say(f"{len(done)} of {proposals.total} runs completed under {root}")
    for line in lines:
        if line.ended.state == "failed":
            say(f"  failed {line.job.name}: {line.ended.reason}")
    if stopped:
        say("stopped: the same command with this run.dir goes on")
        return
    for text in proposals.summary():
        say(text)
    if len(done) > 1 and all((line.job.directory / "results.json").is_file() for line in done):
        folder, page = shlex.quote(str(root)), shlex.quote(f"{root}_comparison")
        say(f"next: python -m align stage=compare runs={folder} run.dir={page}")


def reason(code: int, said: str, directory: Path, log: Path | None) -> str:
    """Why a job ended: what it said, else what it left, else by what it was ended."""
    if said:
        return said
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"
    try:
        left = str((read_record(directory) or {}).get("error", ""))
    except AlignError as error:
        left = str(error)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if log else []
    return left or "".join(last) or f"exit code {code}"


def validations(directory: Path) -> list[tuple[int, float]]:
    """A run's looks at its validation split so far: step and value."""
    path = directory / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = read_metrics(path, most=1)
    return [(int(line["step"]), float(line["validation"])) for line in lines if "validation" in line]


def _entry(line: Line) -> dict[str, object]:
    return {
        "name": line.job.name,
        "varied": list(line.job.varied),
        "state": line.ended.state,
        "reason": line.ended.reason,
        "seconds": round(line.seconds, 3),
    }


def _first(text: str) -> str:
    return text.splitlines()[0]
