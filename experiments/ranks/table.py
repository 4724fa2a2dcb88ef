"""The README's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_APART = 1e-5


def tables(found: Mapping[str, Any]) -> str:
    """When and where, steps, and falls, in Markdown."""
    known = found["circumstances"]
    when = (
        f"{known['date']}, {known['cores']} cores, gloo, torch {known['versions']['torch']}, deepspeed "
        f"{known['versions']['deepspeed']}."
    )
    return "\n\n".join([when, _steps(found["steps"]), _falls(found["falls"], found["grace"])])


def _steps(found: Mapping[str, Any]) -> str:
    lines = [
        f"| two ranks against one | steps | largest difference of a step's loss (at most {MOST_APART:g}) "
        "| the loss moved by |",
        "|---|---|---|---|",
    ]
    for name, one in found.items():
        missed = " (missed)" if one["difference"] > MOST_APART else ""
        lines.append(f"| {name} | {one['steps']} | {one['difference']:.1e}{missed} | {one['moved']:.3f} |")
    return "\n".join(lines)


def _falls(found: Mapping[str, Any], grace: int) -> str:
    lines = [
        f"| with `launch.grace={grace}` | seconds until all is over, median | longest | of rounds "
        "| exit code | the rank is named | processes left |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        missed = " (missed)" if one["longest"] > grace else ""
        named = {None: "-", True: "yes", False: "no (missed)"}[one["named"]]
        lines.append(
            f"| {name} | {one['seconds']:.1f} | {one['longest']:.1f}{missed} | {one['rounds']} "
            f"| {one['code']} | {named} | {one['left']} |"
        )
    return "\n".join(lines)
