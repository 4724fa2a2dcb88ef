"""``results.json``, and the README's tables that are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.comparison.coverage import TESTS, error_of
from experiments.comparison.intervals import SHOWN

MOST_SECONDS, MOST_MB = 20.0, 1000.0
LEAST, MOST = 0.93, 0.97
"""Shares of intervals of 95 % that hold the truth."""

Found = dict[str, Any]


def merged(before: Found, found: Found) -> Found:
    """What was measured now beside what stands there already."""
    whole = {**before, **found}
    for part in ("intervals", "tests"):
        whole[part] = {**before.get(part, {}), **found.get(part, {})}
    return whole


def tables(found: Found) -> str:
    """All that there is to show, in Markdown."""
    blocks = []
    if "scale" in found:
        blocks.append(_scale(found["scale"]))
    if found.get("intervals"):
        blocks.append(_intervals(found["intervals"]))
    if found.get("tests"):
        blocks.append(_tests(found["tests"]))
    return "\n\n".join(blocks)


def _scale(found: Mapping[str, Any]) -> str:
    known = found["circumstances"]
    lines = [
        f"{known['date']}, {known['cores']} cores with a load of {known['load']:.1f} before, commit "
        f"{known['commit']}: {found['runs']} runs of {found['lines']:,} lines, medians.",
        "",
        "| compared | seconds | of a processor | memory, MB | the page, MB |",
        "|---|---|---|---|---|",
    ]
    for name in ("trainings", "evaluations"):
        one = found[name]
        slow = " (missed)" if one["seconds"] > MOST_SECONDS else ""
        large = " (missed)" if one["peak_mb"] > MOST_MB else ""
        lines.append(
            f"| {name} | {one['seconds']:.1f}{slow} | {one['cpu_seconds']:.1f} | {one['peak_mb']:.0f}{large} "
            f"| {one['page_mb']:.1f} |"
        )
    return "\n".join([*lines, f"| at most | {MOST_SECONDS:.0f} | | {MOST_MB:.0f} | |"])


def _intervals(found: Mapping[str, Any]) -> str:
    lines = ["| interval of 95 % | world | holds the truth | of experiments |", "|---|---|---|---|"]
    for name, shown in SHOWN.items():
        if name in found:
            one = found[name]
            outside = "" if LEAST <= one["share"] <= MOST else " (missed)"
            lines.append(f"| {shown.where} | {shown.how} | {one['share']:.3f}{outside} | {one['draws']:,} |")
    return "\n".join(lines)


def _tests(found: Mapping[str, Any]) -> str:
    lines = ["| asked | should be | is | of experiments |", "|---|---|---|---|"]
    for name, (asked, expected, _) in TESTS.items():
        if name in found:
            one = found[name]
            error = error_of(one["share"], one["draws"])
            lines.append(f"| {asked} | {expected:g} | {one['share']:.3f} ± {error:.3f} | {one['draws']:,} |")
    return "\n".join(lines)
