"""One job of a sweep: what it is asked to do, and what became of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["completed", "skipped", "pruned", "terminated", "failed"]
"""``skipped`` was completed in an earlier sitting; ``terminated`` saved and can go on."""

_LONGEST = 120  # characters of a folder's name; file systems end at 255 bytes


@dataclass(frozen=True)
class Proposal:
    """A job that a search asks for."""

    name: str
    """The name of its folder under the sweep's."""
    varied: tuple[str, ...]
    """Its own words; all others it shares."""


@dataclass(frozen=True)
class Ended:
    """What became of a job."""

    state: State
    reason: str = ""
    """Why it is not complete: the error's own words."""


@dataclass(frozen=True)
class Job:
    """A proposal with its place."""

    number: int
    """From 1 on, in the order in which jobs began."""
    name: str
    varied: tuple[str, ...]
    words: tuple[str, ...]
    """The whole command behind ``python -m align``."""
    directory: Path


def folder_name(varied: Sequence[str]) -> str:
    """A job's folder, named by what it varies; where that is too long, its end is a hash of the rest."""
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "_".join(varied)).strip("_") or "job"
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Line:
    """A job that is over, in a sweep's list."""

    job: Job
    ended: Ended
    seconds: float
    """How long it ran in this sitting."""
