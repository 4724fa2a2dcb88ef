"""A gradient that is NaN on one rank stops all of them before it reaches a weight, whoever holds what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ranks import RANKS, start

WORKER = Path(__file__).with_name("not_finite_on_ranks.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[str, bool]]]:
    """By rank and stage of ZeRO."""
    folder = tmp_path_factory.mktemp("not_finite")
    start(WORKER, folder)
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_no_weight_takes_a_step_that_is_not_finite(
    stage: str, told: list[dict[str, tuple[str, bool]]]
) -> None:
    what = "gradient of weight, bias" if stage == "0" else "global norm of the gradients"
    for rank in told:
        said, same = rank[stage]
        assert same
        assert said.startswith(f"{what} is nan at step 1; batch: pair 3")
