"""Sections of a composed config that a stage's components, as they are set, do not use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from align.config import Problems, value_of
from align.protocols import Benchmark, Collector, Part


def spare(composed: Mapping[str, Any]) -> set[str]:
    """Names of such sections; none where a component has mistakes, of which the stage itself tells."""
    stage = composed["stage"]["name"]
    if stage == "collect":
        method = value_of(Collector, composed.get("collect"), "collect", Problems())
        needs = getattr(method, "needs", ("writer", "reward"))
        return {name for name, need in (("model", "writer"), ("reward", "reward")) if need not in needs}
    if stage == "evaluate":
        problems = Problems()
        chosen = value_of(Mapping[str, Benchmark], composed.get("benchmark"), "benchmark", problems)
        if problems.lines or not chosen:
            return set()
        return set(get_args(Part)) - {part for one in chosen.values() for part in (*one.needs, *one.takes)}
    return set()


def without_spare(composed: Mapping[str, Any], typed: set[str]) -> dict[str, Any]:
    """The config without spare sections that a yaml brought in; typed ones stay, and are refused."""
    unused = spare(composed) - typed if composed["stage"]["name"] == "evaluate" else set()
    return {key: None if key in unused else value for key, value in composed.items()}
