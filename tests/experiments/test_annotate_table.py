"""The table of what the desk promises: what it must say, and that it says where something was missed."""

from __future__ import annotations

import copy
from typing import Any

from experiments.annotate.table import table

FINE: dict[str, Any] = {
    "kills": {
        "kills": 20, "clients": 50, "acknowledged": 1234,
        "lost": 0, "doubled": 0, "crowded": 0, "failures": [],
    },
    "race": {
        "annotators": 200, "items": 10, "overlap": 3, "sent": 90, "kept": 30,
        "answers_per_item": {"3": 10}, "doubled": 0,
    },
    "load": {
        "annotators": 200, "rate": 10.0, "seconds": 60.0, "answers": 600, "errors": 0,
        "p50": 0.0123, "p95": 0.0456, "worst": 0.3, "late": 0.001,
    },
    "bulk": {
        "items": 100_000, "import_seconds": 21.04, "serves": 1000,
        "serve_p50": 0.004, "serve_p95": 0.0099, "serve_worst": 0.031,
    },
    "page": {"times": 5, "median": 0.3, "worst": 0.41, "bytes": 39_000, "requests": 4},
}  # fmt: skip
KNOWN = {
    "date": "2026-11-26", "commit": "abc", "cores": 2, "load_before": 0.1, "load_after": 0.2,
    "python": "3.11.7", "sqlalchemy": "2.1.9", "fastapi": "1", "uvicorn": "1",
}  # fmt: skip


def test_the_table_has_a_column_a_database() -> None:
    said = table({"circumstances": KNOWN, "sqlite": FINE, "postgresql": FINE})
    assert "(missed)" not in said
    assert "| figure | must be | SQLite | PostgreSQL |" in said
    assert (
        "| acknowledged answers lost in 20 kills (SIGKILL) under 50 clients | 0 | 0 of 1234 | 0 of 1234 |"
        in said
    )
    assert "| exactly 3 | 3 on 10 | 3 on 10 |" in said
    assert "46 ms (median 12 ms, worst 300 ms)" in said


def test_each_figure_that_misses_says_so() -> None:
    misses = [
        ("kills", "lost", 1), ("kills", "doubled", 1), ("kills", "crowded", 1),
        ("kills", "failures", ["500"]),
        ("race", "doubled", 1), ("race", "answers_per_item", {"3": 9, "4": 1}),
        ("race", "answers_per_item", {"2": 10}),
        ("load", "errors", 1), ("load", "p95", 0.251), ("bulk", "import_seconds", 61.0),
        ("bulk", "serve_p95", 0.021), ("page", "worst", 1.1), ("page", "bytes", 50_001),
    ]  # fmt: skip
    for part, name, value in misses:
        found = copy.deepcopy(FINE)
        found[part][name] = value
        assert table({"circumstances": KNOWN, "sqlite": found}).count("(missed)") == 1, (part, name)
