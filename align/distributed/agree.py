"""Before they work together, ranks compare what they work on: settings, versions, seed, code, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from align.distributed.world import gathered, world
from align.errors import RanksDiffer
from align.host import git_state, versions

if TYPE_CHECKING:
    from align.run import Run

_OF_THE_NODE = ("launch", "run")
"""Sections that may differ from machine to machine: which node it is, where its cache lies."""

_MOST = 12
"""Differences that are listed."""


def require_same(facts: Callable[[], Mapping[str, str]]) -> None:
    """Stops every rank where they differ; ``facts`` (name -> value) is not asked for where there is one.

    Raises:
        RanksDiffer: each difference by name, with the ranks that have it and what rank 0 has.
    """
    if world().size == 1:
        return
    differing = differences(gathered(dict(facts())))
    if differing:
        more = [f"and {len(differing) - _MOST} more"] if len(differing) > _MOST else []
        lines = ["the ranks do not work on the same:", *differing[:_MOST], *more]
        raise RanksDiffer("\n  ".join(lines))


def differences(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """Where facts of ranks, in their order, differ from rank 0's; one line for ranks that differ alike."""
    lines = []
    for name in sorted({name for one in facts for name in one}):
        values = [one.get(name, "none") for one in facts]
        for value in dict.fromkeys(one for one in values if one != values[0]):
            ranks = [str(rank) for rank, one in enumerate(values) if one == value]
            who = f"rank {ranks[0]} has" if len(ranks) == 1 else f"ranks {', '.join(ranks)} have"
            lines.append(f"{who} {name} {value}, rank 0 has {values[0]}")
    return lines


def facts_of(run: Run) -> dict[str, str]:
    """What is known of a run before it begins: its settings, seed, code, and the versions of libraries."""
    from align.run import flat

    config = {key: value for key, value in run.config.items() if key not in _OF_THE_NODE}
    found = {f"config {key}": str(value) for key, value in flat(config).items()}
    found |= {f"version of {name}": version for name, version in versions().items()}
    found["run.dir"] = str(run.directory)
    state = git_state()
    return found | ({"commit": str(state["commit"])} if state else {})
