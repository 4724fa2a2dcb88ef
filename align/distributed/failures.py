"""What became of each rank, in a file of its own; and which failure was the first and no consequence."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from align.errors import AlignError, StoppedElsewhere
from align.files import write_json

_OF_OTHERS = ("/torch/distributed/", "/deepspeed/")
"""An error whose innermost frame lies in these says that another rank is gone or late."""


@dataclass(frozen=True)
class Failure:
    """How a rank ended that did not end well."""

    rank: int
    when: float
    """Seconds of the machine's monotonic clock."""
    message: str
    """What a user reads: an ``AlignError``'s words, else the traceback."""
    exit_code: int
    is_told: bool
    """Whether the words are this project's own, which need no traceback."""
    is_consequence: bool
    """Whether it was the loss of another rank that this one stopped at."""


def write_failure(folder: Path, rank: int, error: BaseException) -> Failure:
    """Writes down what a rank stops at."""
    told = isinstance(error, AlignError | KeyboardInterrupt)
    trace = "".join(traceback.format_exception(error)).strip()
    words = "stopped by the keyboard" if isinstance(error, KeyboardInterrupt) else str(error)
    failure = Failure(
        rank=rank,
        when=time.monotonic(),
        message=words if told else trace,
        exit_code=_code_of(error),
        is_told=told,
        is_consequence=isinstance(error, StoppedElsewhere) or _is_of_others(error),
    )
    write_json(_failure_file(folder, rank), asdict(failure))
    return failure


def write_done(folder: Path, rank: int) -> None:
    """Writes down that a rank's work is done: whoever ends without that left too early."""
    _done_file(folder, rank).touch()


def is_done(folder: Path, rank: int) -> bool:
    """Whether ``write_done`` was called for a rank."""
    return _done_file(folder, rank).exists()


def read_failure(folder: Path, rank: int) -> Failure | None:
    """What a rank wrote down that it stops at, if it did."""
    try:
        return Failure(**json.loads(_failure_file(folder, rank).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def has_ended(folder: Path, rank: int) -> bool:
    """Whether a rank has said that it is done, or what it stops at."""
    return is_done(folder, rank) or _failure_file(folder, rank).exists()


def culprit(failures: Sequence[Failure]) -> Failure:
    """The first that is no consequence of another; of the same words on many ranks, the lowest rank's."""
    first = min(failures, key=lambda one: (one.is_consequence, one.when))
    alike = [one for one in failures if one.message == first.message]
    return min(alike, key=lambda one: (one.is_consequence, one.rank))


def _is_of_others(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(part in frames[-1].filename for part in _OF_OTHERS)


def _code_of(error: BaseException) -> int:
    if isinstance(error, AlignError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 1


def _failure_file(folder: Path, rank: int) -> Path:
    return folder / f"failed-{rank}.json"


def _done_file(folder: Path, rank: int) -> Path:
    return folder / f"done-{rank}"
