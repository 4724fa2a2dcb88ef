"""The watch over one run: looks at each line once, remembers little, and raises an alarm once an episode.

An episode begins when a rule's condition has held on enough lines in a row, and ends when it has not held
for ``window`` lines in a row: a condition that flickers is one alarm. All that is remembered is plain values,
which a checkpoint holds exactly, so that a resumed run raises the same alarms at the same steps, none twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from align.alarms.conditions import Line
from align.alarms.rules import RULES, Rule
from align.alarms.settings import AlarmSettings
from align.types import Result

_REMEMBERED = frozenset(name for rule in RULES for name in rule.from_start)


@dataclass(frozen=True)
class Alarm:
    """One alarm that was raised."""

    rule: Rule
    step: int
    seen: str
    """The numbers of the line that raised it, in words."""
    lines: int
    """Lines in a row on which the condition had held by then."""
    stops: bool
    """Whether the run ends here."""

    def __str__(self) -> str:
        return (
            f"alarm {self.rule.name} at step {self.step}: {self.seen} ({self.lines} lines in a row). "
            f"Usual cause: {self.rule.cause}. Try: {self.rule.attempt}."
        )


@dataclass
class Tally:
    """What the watch knows of one alarm."""

    held: int = 0
    """Lines in a row, up to the last one judged, on which the condition held."""
    quiet: int = 0
    """Lines in a row on which it did not."""
    open: bool = False
    """Whether an episode is on."""
    raised: int = 0
    """Episodes so far."""


@dataclass
class Watch:
    """The state of a run's watch; ``look`` moves it on by one line."""

    lines: int = 0
    """Lines on which at least one alarm had the metrics that it reads."""
    first: dict[str, list[float]] = field(default_factory=dict)
    """Metric -> its first values."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """Alarm -> its tally, for those that were judged at all."""

    def look(self, settings: AlarmSettings, step: int, line: Line) -> list[Alarm]:
        """The alarms that this line raises, in the order of the rules; called once a line."""
        start = self._start(settings)
        applying = [rule for rule in RULES if _applies(rule, settings, line)]
        self.lines += bool(applying)
        judged = [rule for rule in applying if start.keys() >= set(rule.from_start)]
        raised = [self._judge(rule, settings, step, line, start) for rule in judged]
        self._remember(settings, line)
        return [alarm for alarm in raised if alarm is not None]

    def counts(self) -> dict[str, int]:
        """Alarm -> how often it was raised, for those that were."""
        return {name: tally.raised for name, tally in self.tallies.items() if tally.raised}

    def marks(self, alarms: list[Alarm]) -> dict[str, float]:
        """What a line of metrics says of alarms: how many the run has had (``alarms/raised``), and 1 for each
        that this line raised (``alarms/NAME``). Empty while there is nothing to watch."""
        if not self.lines:
            return {}
        total = float(sum(self.counts().values()))
        return {"alarms/raised": total} | {f"alarms/{alarm.rule.name}": 1.0 for alarm in alarms}

    def plain(self) -> dict[str, Any]:
        """As plain values; floats survive JSON exactly."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Watch:
        """The inverse of ``plain``, through JSON."""
        tallies = {name: Tally(**tally) for name, tally in values["tallies"].items()}
        return cls(lines=values["lines"], first=dict(values["first"]), tallies=tallies)

    def _start(self, settings: AlarmSettings) -> dict[str, float]:
        """Mean of the first lines, of those metrics that have had enough of them."""
        size = settings.baseline
        return {name: fmean(values[:size]) for name, values in self.first.items() if len(values) >= size}

    def _remember(self, settings: AlarmSettings, line: Line) -> None:
        for name in sorted(_REMEMBERED & line.keys()):
            values = self.first.setdefault(name, [])
            if len(values) < settings.baseline:
                values.append(line[name])

    def _judge(self, rule: Rule, settings: AlarmSettings, step: int, line: Line, start: Line) -> Alarm | None:
        tally = self.tallies.setdefault(rule.name, Tally())
        seen = rule.sees(line, start, settings)
        if seen is None:
            tally.held, tally.quiet = 0, tally.quiet + 1
            tally.open = tally.open and tally.quiet < settings.window
            return None
        tally.held, tally.quiet = tally.held + 1, 0
        if tally.open or tally.held < rule.lines_needed(settings):
            return None
        tally.open, tally.raised = True, tally.raised + 1
        stops = settings.action == "stop" and rule.name not in settings.only_warn
        return Alarm(rule, step, seen, tally.held, stops)


def counted(stage: str, counts: Mapping[str, int], lines: int) -> list[Result]:
    """``<stage>/alarms``, how many were raised, and ``<stage>/alarms/NAME`` for each that was.

    ``n`` is how many lines were watched; nothing where no line had anything to watch.
    """
    if not lines:
        return []
    named = {f"{stage}/alarms/{name}": times for name, times in counts.items()}
    values = {f"{stage}/alarms": sum(counts.values()), **named}
    return [Result(metric, float(value), lines, None, None, "exact") for metric, value in values.items()]


def _applies(rule: Rule, settings: AlarmSettings, line: Line) -> bool:
    return rule.name not in settings.ignored and line.keys() >= set(rule.reads)
