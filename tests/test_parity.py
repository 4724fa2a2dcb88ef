"""Our formulas against numbers that published implementations produced (``tests/fixtures/parity.json``).

Any file of cases of the same functions runs: ``ALIGN_PARITY_CASES=other.json pytest tests/test_parity.py``.
The families live in ``tests/parity``. A case whose convention is not offered is listed with the reason; one
that cannot be mapped at all fails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from parity import other_rooms, pair_losses, ppo_advantages, ppo_losses, ppo_rewards, scores_and_logps
from parity.cases import Case, NotOffered, Runner, cases

FAMILIES = (pair_losses, scores_and_logps, ppo_rewards, ppo_advantages, ppo_losses, other_rooms)
RUNNERS: dict[str, Runner] = {kind: runner for family in FAMILIES for kind, runner in family.RUNNERS.items()}
CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: Case, record_property: Callable[[str, object], None]) -> None:
    """Every output that we have a counterpart for, gradients included, or a reason why there is none."""
    try:
        RUNNERS[case["kind"]](case)
    except NotOffered as reason:
        record_property("not_offered", str(reason))
        print(f"NOT OFFERED {case['name']}: {reason}")
