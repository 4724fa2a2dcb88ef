"""The tables of what two ranks did: that they tell a miss, and that the page shows what was measured."""

from __future__ import annotations

import copy
import json
from typing import Any

from experiments.page import spliced
from experiments.ranks.__main__ import HERE
from experiments.ranks.falls import FALLS
from experiments.ranks.steps import CASES, STEPS
from experiments.ranks.table import tables

FOUND: dict[str, Any] = {
    "circumstances": {"date": "2026-01-01", "cores": 2, "versions": {"torch": "2", "deepspeed": "0"}},
    "steps": {"dpo zero3": {"difference": 2e-6, "steps": 30, "moved": 0.2}},
    "grace": 15,
    "falls": {"killed": {"seconds": 2.0, "longest": 3.0, "code": 9, "named": True, "left": 0, "rounds": 3}},
}


def test_a_miss_is_told() -> None:
    assert "missed" not in tables(FOUND)
    for part, row, name, value in (
        ("steps", "dpo zero3", "difference", 2e-5),
        ("falls", "killed", "longest", 15.5),
        ("falls", "killed", "named", False),
    ):
        found = copy.deepcopy(FOUND)
        found[part][row][name] = value
        assert tables(found).count("(missed)") == 1, name


def test_everything_was_measured_and_within_its_bounds() -> None:
    found = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    assert found["steps"].keys() == CASES.keys()
    assert found["falls"].keys() == FALLS.keys()
    for one in found["steps"].values():
        assert one["steps"] == STEPS
        assert one["moved"] > 0.01, "it learns, so that there is something to differ in"
    text = tables(found)
    assert "missed" not in text
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert spliced(page, "ranks", text) == page
