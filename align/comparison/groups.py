"""Runs that differ in nothing but their seed, together; and each metric of each group with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from align.comparison.found import WITHIN, Found
from align.errors import DataError
from align.evaluation.seeds import over_seeds, seed_spread
from align.types import Result

_SHARES = ("wilson", "tango")
"""How intervals of shares are made (``statistics.proportion``)."""


@dataclass(frozen=True)
class Group:
    """Runs of the same settings over seeds."""

    label: str
    """What sets it apart: ``loss.beta=0.1``."""
    settings: Mapping[str, Any]
    """The options that differ between groups, under their shortest names."""
    runs: tuple[Found, ...]


@dataclass(frozen=True)
class Cell:
    """One metric of one group: over seeds where there are several runs, the run's own result where not."""

    result: Result
    spread: float | None
    """Standard deviation between seeds."""
    values: tuple[float, ...]
    """One number a run."""


def grouped(runs: Sequence[Found]) -> tuple[list[Group], dict[str, str]]:
    """Groups in the order of their settings, and runs that repeat another (left out, with why)."""
    names = differing(runs)
    members: dict[tuple[str, ...], list[Found]] = {}
    left_out: dict[str, str] = {}
    for run in runs:
        key = tuple(str(run.settings.get(full)) for full in names)
        twin = next((one for one in members.get(key, []) if one.seeds == run.seeds), None)
        if twin is not None:
            left_out[str(run.directory)] = f"the same settings and seeds as {twin.directory}"
            continue
        members.setdefault(key, []).append(run)
    groups, telling = [], _telling(names, list(members))
    for found in members.values():
        settings = {short: found[0].settings.get(full) for full, short in names.items()}
        label = ", ".join(f"{key}={shown(value)}" for key, value in settings.items() if key in telling)
        groups.append(Group(label or found[0].stage, settings, tuple(found)))
    return sorted(groups, key=_order), left_out


def _telling(names: Mapping[str, str], keys: Sequence[tuple[str, ...]]) -> set[str]:
    """Options that suffice to tell the groups apart, each where those before it do not."""
    kept: list[int] = []
    for place in range(len(names)):
        apart = len({tuple(key[one] for one in kept) for key in keys})
        if len({tuple(key[one] for one in [*kept, place]) for key in keys}) > apart:
            kept.append(place)
    return {list(names.values())[place] for place in kept}


def differing(runs: Sequence[Found]) -> dict[str, str]:
    """Options whose values differ between runs -> their shortest names.

    Options that share a last part and differ together (one option of several steps) are named once.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    columns = {key: tuple(str(run.settings.get(key)) for run in runs) for key in keys}
    varied = {key: column for key, column in columns.items() if len(set(column)) > 1}
    kept: dict[str, str] = {}
    for key, column in varied.items():
        last = key.split(WITHIN)[-1]
        short = last.split(".", maxsplit=2)[-1] if last.startswith("steps.") else last
        if any(varied[full] == column and name == short for full, name in kept.items()):
            continue
        kept[key] = key if short in kept.values() else short
    return kept


def cells(groups: Sequence[Group]) -> dict[str, dict[str, Cell]]:
    """metric -> group's label -> its number; a group where a run lacks the metric is left out of its row."""
    metrics = dict.fromkeys(one.metric for group in groups for run in group.runs for one in run.results)
    table: dict[str, dict[str, Cell]] = {metric: {} for metric in metrics}
    for group in groups:
        by_run = [{one.metric: one for one in run.results} for run in group.runs]
        for metric in metrics:
            found = [results[metric] for results in by_run if metric in results]
            if len(found) < len(by_run):
                continue
            values = tuple(one.value for one in found)
            alone = len(found) == 1
            result = found[0] if alone else _within(over_seeds(metric, values), found)
            table[metric][group.label] = Cell(result, None if alone else seed_spread(values), values)
    return table


def _within(result: Result, runs: Sequence[Result]) -> Result:
    """A share's interval ends at 0 and 1, which Student's does not know."""
    if (
        result.ci_low is None
        or result.ci_high is None
        or not all(one.method.startswith(_SHARES) for one in runs)
    ):
        return result
    return replace(result, ci_low=max(0.0, result.ci_low), ci_high=min(1.0, result.ci_high))


def baseline_of(groups: Sequence[Group], asked: str | None) -> Group:
    """The group that others are held against: the one with this label or run directory, else the first.

    Raises:
        DataError: no group is called so.
    """
    if asked is None:
        return groups[0]
    for group in groups:
        if asked == group.label or any(asked in (run.name, str(run.directory)) for run in group.runs):
            return group
    labels = "; ".join(group.label for group in groups)
    raise DataError(f"compare.baseline={asked}: no such group or run. There are: {labels}")


def rank_of(metric: str) -> int:
    """Its place among metrics: win rates, scores, gains, drift, accuracy, rewards, losses, then the rest."""
    first = ("_win_rate", "/win_rate", "/score", "refusal", "/perplexity")
    order = (*first, "_gain", "/kl", "/accuracy", "_reward", "/nll", "/length")
    return next((place for place, end in enumerate(order) if metric.endswith(end)), len(order))


def shown(value: Any) -> str:
    """An option's value as it is typed; floats without the digits that their sums leave."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(group: Group) -> list[tuple[bool, float, str]]:
    """Numbers by size before words by letter."""
    return [
        (False, float(value), "") if isinstance(value, int | float) else (True, 0.0, str(value))
        for value in group.settings.values()
    ]
