"""Two runs of the same work, number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from align.report.files import read_metrics, read_results
from align.reproduction.again import Part
from align.run import read_record
from align.tracking.metrics import CLOCK_KEYS
from align.types import Result

Verdict = Literal["same", "within", "outside", "no interval", "missing", "new"]
"""``same`` to the last bit; else whether the new value lies in the old one's interval, where it has one."""


@dataclass(frozen=True)
class Number:
    """One metric of results.json."""

    metric: str
    was: Result | None
    now: Result | None

    @property
    def verdict(self) -> Verdict:
        """How the two values stand to each other."""
        if self.was is None:
            return "new"
        if self.now is None:
            return "missing"
        if self.was.value == self.now.value:
            return "same"
        if self.was.ci_low is None or self.was.ci_high is None:
            return "no interval"
        return "within" if self.was.ci_low <= self.now.value <= self.was.ci_high else "outside"


def numbers(was: Path, now: Path) -> list[Number]:
    """Every metric of either results.json, in the order of the original."""
    before, after = (_results(directory) for directory in (was, now))
    return [Number(name, before.get(name), after.get(name)) for name in {**before, **after}]


def differing_files(parts: Sequence[Part]) -> list[str]:
    """What else should be the same bits and is not (metrics.jsonl, samples, models), one line each."""
    lines = []
    for part in parts:
        place = f"{part.name}/" if part.name else ""
        first = _first_difference(part.was, part.now)
        if first is not None:
            lines.append(f"{place}metrics.jsonl: {first}")
        was, now = (_bytes(directory / "samples.jsonl") for directory in (part.was, part.now))
        if was != now:
            lines.append(f"{place}samples.jsonl: other bytes")
        made, again = (_products(directory) for directory in (part.was, part.now))
        lines += [f"{place}{name}: other bytes" for name in made if made[name] != again.get(name)]
    return lines


def _results(directory: Path) -> dict[str, Result]:
    path = directory / "results.json"
    return {result.metric: result for result in read_results(path)} if path.is_file() else {}


def _first_difference(was: Path, now: Path) -> str | None:
    """The first step and key that differ, of those that the seed decides and not the clock."""
    before, after = (_steps(directory / "metrics.jsonl") for directory in (was, now))
    for step in sorted({*before, *after}):
        one, other = before.get(step, {}), after.get(step, {})
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return f"step {step}, {key}: {one.get(key, 'absent')} -> {other.get(key, 'absent')}"
    return None


def _steps(path: Path) -> dict[int, dict[str, float]]:
    lines = read_metrics(path) if path.is_file() else []
    return {
        int(line["step"]): {key: value for key, value in line.items() if key not in CLOCK_KEYS}
        for line in lines
    }


def _products(directory: Path) -> dict[str, str]:
    outputs = (read_record(directory) or {}).get("outputs", {})
    return {name: one["sha256"] for name, one in outputs.items() if "sha256" in one}


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
