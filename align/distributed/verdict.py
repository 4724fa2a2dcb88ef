"""Which rank a run failed by, in one message: from what the ranks wrote down and how they ended."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from align.distributed.failures import Failure, culprit, is_done, read_failure
from align.distributed.pulse import read_beat
from align.distributed.watch import where
from align.distributed.watcher import Hung
from align.errors import RankError, Terminated

_TAIL = 15
"""Last lines of a rank's own output that are shown where it died without a word."""


@dataclass(frozen=True)
class Ends:
    """How the ranks of this node ended."""

    size: int
    """Ranks of all nodes."""
    ranks: Sequence[int]
    codes: Mapping[int, int]
    """Exit codes that are not 0; minus the signal's number where one ended it."""
    hung: Hung | None
    gone: Mapping[int, float]
    """When each was seen to be gone (seconds of the monotonic clock)."""
    killed: AbstractSet[int]
    """Those that were ended because another had died or hung."""
    stopped: signal.Signals | None
    """The signal that ended the launcher."""


def verdict(folder: Path, ends: Ends) -> RankError | Terminated | None:
    """What the run stops at, or None where every rank did its work to the end."""
    failures = [found for rank in ends.ranks if (found := read_failure(folder, rank))]
    if ends.hung is not None:
        return RankError(_told_hung(ends))
    if ends.stopped is not None:
        return Terminated(_told_stop(ends, failures))
    failures += [found for rank in ends.ranks if (found := _without_a_word(folder, ends, rank))]
    if not failures:
        return None
    first = culprit(failures)
    name = _name(first.rank, ends)
    if first.exit_code == Terminated.exit_code and first.is_told:
        return Terminated(first.message)
    told = f"{name}: {first.message}" if first.is_told else f"{name} failed, all were ended:\n{first.message}"
    if first.is_consequence:
        # nobody fell by itself: who kept the others waiting shows in where each was
        told += "".join(f"\nrank {rank} was at: {where(read_beat(folder, rank))}" for rank in ends.ranks)
    return RankError(told, first.exit_code)


def _without_a_word(folder: Path, ends: Ends, rank: int) -> Failure | None:
    """The failure of a rank that wrote none down, where it did not end well and not for another's sake."""
    code = ends.codes.get(rank, 0)
    if read_failure(folder, rank) or rank in ends.killed or (code == 0 and is_done(folder, rank)):
        return None
    if code < 0:
        name = signal.Signals(-code).name
        how = f"was killed by {name}" + (" (memory ran out, or somebody did it)" if name == "SIGKILL" else "")
    elif is_done(folder, rank):
        how = f"did its work and then exited with code {code}"
    else:
        how = f"exited with code {code} before its work was done"
    lines = [how, f"it was at: {where(read_beat(folder, rank))}", *_said(folder, rank)]
    return Failure(
        rank=rank,
        when=ends.gone.get(rank, float("inf")),
        message="\n  ".join(lines),
        exit_code=RankError.exit_code,
        is_told=True,
        # the agent's own way to end the others
        is_consequence=code == -signal.SIGTERM,
    )


def _told_hung(ends: Ends) -> str:
    hung = ends.hung
    assert hung is not None
    lines = [
        f"{_name(hung.rank, ends)} hung: it {hung.why}; all ranks were ended",
        f"it was at: {hung.where}",
    ]
    if hung.stack:
        lines += ["its stack, innermost frame first:", *hung.stack.splitlines()]
    return "\n  ".join(lines)


def _told_stop(ends: Ends, failures: Sequence[Failure]) -> str:
    assert ends.stopped is not None
    told = [one for one in failures if one.is_told and not one.is_consequence]
    if told:
        return min(told, key=lambda one: one.rank).message
    return f"{ends.stopped.name}: the ranks were ended; resume=true goes on from the newest checkpoint"


def _said(folder: Path, rank: int) -> list[str]:
    """The end of what a rank printed to its standard error."""
    for file in sorted(folder.glob(f"logs/**/{rank}/stderr.log")):
        lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
        if lines:
            return ["the last that it printed:", *(f"  {line}" for line in lines)]
    return []


def _name(rank: int, ends: Ends) -> str:
    return f"rank {rank} of {ends.size}"
