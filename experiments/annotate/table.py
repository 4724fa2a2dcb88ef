"""The table of the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

Found = Mapping[str, Mapping[str, Any]]


def _times(found: Mapping[str, Any], name: str) -> str:
    p95, p50, worst = (f"{found[name + which] * 1000:.0f} ms" for which in ("p95", "p50", "worst"))
    return f"{p95} (median {p50}, worst {worst})"


FIGURES: tuple[tuple[Callable[[Found], str], str, Callable[[Found], tuple[str, bool]]], ...] = (
    (
        lambda found: "acknowledged answers lost in {kills} kills (SIGKILL) under {clients} clients".format(
            **found["kills"]
        ),
        "0",
        lambda found: (
            f"{found['kills']['lost']} of {found['kills']['acknowledged']}",
            not found["kills"]["lost"],
        ),
    ),
    (
        lambda found: "the same: answers doubled; items with a vote too many; requests refused",
        "0; 0; 0",
        lambda found: (
            f"{found['kills']['doubled']}; {found['kills']['crowded']}; {len(found['kills']['failures'])}",
            not (found["kills"]["doubled"] or found["kills"]["crowded"] or found["kills"]["failures"]),
        ),
    ),
    (
        lambda found: (
            "answers doubled, {annotators} annotators x {items} items x overlap {overlap}, each sent "
            "three times at once".format(**found["race"])
        ),
        "0",
        lambda found: (
            f"{found['race']['doubled']} of {found['race']['kept']} ({found['race']['sent']} sent)",
            not found["race"]["doubled"],
        ),
    ),
    (
        lambda found: "the same: answers an item",
        "exactly 3",
        lambda found: (
            ", ".join(f"{count} on {items}" for count, items in found["race"]["answers_per_item"].items()),
            list(found["race"]["answers_per_item"].items())
            == [(str(found["race"]["overlap"]), found["race"]["items"])],
        ),
    ),
    (
        lambda found: "errors, {annotators} annotators at {rate:g} answers a second for {seconds:g} s".format(
            **found["load"]
        ),
        "0",
        lambda found: (
            f"{found['load']['errors']} of {found['load']['answers']}",
            not found["load"]["errors"],
        ),
    ),
    (
        lambda found: "the same: a submit with the next item in its answer, 95th percentile",
        "at most 250 ms",
        lambda found: (_times(found["load"], ""), found["load"]["p95"] <= 0.25),
    ),
    (
        lambda found: "the same: the load generator's own lag, 95th percentile (how starved the machine was)",
        "",
        lambda found: (f"{found['load']['late'] * 1000:.0f} ms", True),
    ),
    (
        lambda found: f"{found['bulk']['items']:,} items imported from records.jsonl",
        "at most 60 s",
        lambda found: (f"{found['bulk']['import_seconds']:.1f} s", found["bulk"]["import_seconds"] <= 60),
    ),
    (
        lambda found: "the next item served among these, its lease on the disk, 95th percentile",
        "at most 20 ms",
        lambda found: (_times(found["bulk"], "serve_"), found["bulk"]["serve_p95"] <= 0.02),
    ),
    (
        lambda found: "from a started server to the first item on the screen, worst of {times}".format(
            **found["page"]
        ),
        "at most 1 s",
        lambda found: (
            f"{found['page']['worst']:.2f} s (median {found['page']['median']:.2f} s)",
            found["page"]["worst"] <= 1,
        ),
    ),
    (
        lambda found: "bytes of that page with its script and style, uncompressed",
        "at most 50,000",
        lambda found: (f"{found['page']['bytes']:,}", found["page"]["bytes"] <= 50_000),
    ),
)
"""What is measured, what it must be, and what it was (and whether that is so)."""


def table(results: Mapping[str, Any]) -> str:
    """One line a figure, a column a database, in Markdown."""
    databases = [name for name in NAMES if name in results]
    known = results["circumstances"]
    lines = [
        f"{known['date']}, {known['cores']} cores (load average {known['load_before']} before, "
        f"{known['load_after']} after), Python {known['python']}, SQLAlchemy {known['sqlalchemy']}, "
        f"FastAPI {known['fastapi']}, uvicorn {known['uvicorn']}, commit {known['commit']}.",
        "",
        f"| figure | must be | {' | '.join(NAMES[name] for name in databases)} |",
        "|---" * (len(databases) + 2) + "|",
    ]
    for name, bound, figure in FIGURES:
        cells = [_cell(*figure(results[database])) for database in databases]
        lines.append(f"| {name(results[databases[0]])} | {bound} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(said: str, fine: bool) -> str:
    return said if fine else f"{said} (missed)"
