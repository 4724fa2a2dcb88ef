"""Which run raised which alarm, and when: read from the lines that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.comparison.curves import Series
from align.comparison.groups import Group

_TOTAL = "alarms/raised"
_ALARM = "alarms/"


@dataclass(frozen=True)
class Warned:
    """One alarm of one run."""

    group: str
    run: str
    alarm: str
    """Its name, behind the step of a pipeline that raised it: ``ppo: kl_high``."""
    step: int
    last: int
    """The last step that the run wrote a line of."""


@dataclass(frozen=True)
class Alarms:
    """All alarms of all runs; ``watched`` says how many runs were watched at all."""

    raised: tuple[Warned, ...]
    watched: int
    unwatched: tuple[str, ...]
    """Runs whose lines say nothing of alarms: silence there is no good news."""


def alarms_of(groups: Sequence[Group], series: Mapping[str, Sequence[Series]]) -> Alarms:
    """In the order of groups, runs and steps."""
    raised: list[Warned] = []
    unwatched, watched = [], 0
    for group in groups:
        for run, lines in zip(group.runs, series[group.label], strict=True):
            totals = [name for name in lines if name.endswith(_TOTAL)]
            watched += bool(totals)
            if not totals:
                unwatched.append(run.name)
            raised += sorted(
                (
                    Warned(group.label, run.name, name.replace(_ALARM, ""), step, _last(lines, name))
                    for name in lines
                    if _is_one(name)
                    for step, times in lines[name]
                    if times
                ),
                key=lambda one: (one.step, one.alarm),
            )
    return Alarms(tuple(raised), watched, tuple(unwatched))


def _is_one(name: str) -> bool:
    key = name.split(": ")[-1]
    return key.startswith(_ALARM) and key != _TOTAL


def _last(lines: Series, name: str) -> int:
    prefix = name[: name.index(_ALARM)]
    return max(points[-1][0] for other, points in lines.items() if points and other.startswith(prefix))
