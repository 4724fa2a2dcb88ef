"""Plans beside measured peaks: one small run keeps the promise, and the page shows what was measured."""

from __future__ import annotations

import json

import pytest

from experiments.page import spliced
from experiments.plan.__main__ import HERE, measured
from experiments.plan.cases import CASES, Case
from experiments.plan.shown import table

BOUND = 0.15
"""What is promised of a plan: its total is within so much of the measured peak."""


@pytest.mark.slow
def test_a_run_takes_what_was_planned() -> None:
    """Most of it is the model's own, not the libraries': a plan that left out a part would miss."""
    found = measured(Case("dpo", "medium"))
    assert found["total"] == pytest.approx(found["measured"], rel=BOUND)
    own = sum(found[part] for part in ("weights", "gradients", "optimiser", "activations"))
    assert own > 0.5 * found["measured"]


def test_the_page_shows_what_was_measured_and_all_keeps_the_bound() -> None:
    found = json.loads((HERE / "results.json").read_text("utf-8"))["cases"]
    assert set(found) == {case.name for case in CASES}
    page = (HERE / "README.md").read_text("utf-8")
    in_order = {case.name: found[case.name] for case in CASES if case.name in found}
    assert spliced(page, "plan", table(in_order)) == page
    for name, one in found.items():
        assert one["total"] == pytest.approx(one["measured"], rel=BOUND), name
