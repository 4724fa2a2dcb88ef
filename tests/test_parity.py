"""Our formulas against numbers that published implementations produced (``tests/fixtures/parity.json``).

Any file of cases of the same functions runs: ``ALIGN_PARITY_CASES=other.json pytest tests/test_parity.py``.
The families live in ``tests/parity``. A case whose convention is not offered is listed with the reason; one
that cannot be mapped at all fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from parity import other_rooms, pair_losses, ppo_advantages, ppo_losses, ppo_rewards, scores_and_logps
from parity.cases import FIXTURE, Case, NotOffered, Runner, cases

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


def fixture() -> list[Case]:
    """Our own cases, whatever file runs above."""
    return json.loads(FIXTURE.read_text(encoding="utf-8"))["cases"]


def not_offered(of: list[Case]) -> dict[str, str]:
    """Reasons by name."""
    found = {}
    for case in of:
        try:
            RUNNERS[case["kind"]](case)
        except NotOffered as reason:
            found[case["name"]] = str(reason)
    return found


CUT = "a reply is a list that ends with its stop token: nothing stands behind it that must be overwritten"


def test_what_is_not_offered_is_exactly_this() -> None:
    """The list that the fixture leaves, word for word; nothing is skipped otherwise."""
    assert not_offered(fixture()) == {
        "dschat/RewardModel.forward": (
            "DeepSpeed-Chat trains a score at every token after the first difference; ours, one a reply"
        ),
        "openrlhf-v0.5.0/VanillaKTOLoss": (
            "the KL estimate carries a gradient there; the paper's, and ours, carries none"
        ),
        "trl0.11.4/compute_advantages/g0.97_l0.9_whiten_rewards": (
            "trl 0.11 whitens the rewards of padding too, which leak into the advantages of real tokens"
        ),
        "trl0.11.4/ppo_loss/ratio_guard": (
            "a step whose mean ratio is too high is undone there; here the iteration stops early on KL"
        ),
        "trl1.12.0/truncate_response": CUT,
        "tldr_details/truncate_response+first_true": CUT,
        "trl1.16/flush_left": "rows are built aligned left from lists; there is no padded batch to shift",
    }


def test_each_kind_belongs_to_one_family() -> None:
    kinds = [kind for family in FAMILIES for kind in family.RUNNERS]
    assert len(kinds) == len(set(kinds))
    assert {case["kind"] for case in CASES} <= set(kinds), "kinds that no family answers for"


@pytest.mark.parametrize("kind", sorted(set(RUNNERS) - {"logps"}))  # told by its outputs, whatever its name
def test_a_case_that_cannot_be_mapped_fails(kind: str) -> None:
    """A function that nothing is known of is an error in every family, not a reason."""
    case = next(case for case in fixture() if case["kind"] == kind)
    with pytest.raises((KeyError, AssertionError), match="somebody_elses"):
        RUNNERS[kind]({**case, "source": {"function": "somebody_elses"}})


def offered(kind: str) -> Case:
    """One case of a kind that is compared."""
    of_this = [case for case in fixture() if case["kind"] == kind]
    left = not_offered(of_this)
    return next(case for case in of_this if case["name"] not in left)


COMPARED = sorted(set(RUNNERS) - {"tokens"})


@pytest.mark.parametrize("kind", COMPARED)
def test_an_output_that_is_not_compared_fails(kind: str) -> None:
    case = offered(kind)
    with pytest.raises((AssertionError, KeyError), match="surprise"):
        RUNNERS[kind]({**case, "outputs": {**case["outputs"], "surprise": 1.0}})


def off(value: Any) -> Any:
    """The same output, a ten-thousandth away: ten times the widest tolerance."""
    if isinstance(value, Mapping):
        return {key: off(inner) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(value[0], Mapping):
        return [off(inner) for inner in value]
    array = np.array(value, dtype=float)
    return (array * (1 + 1e-4) if array.any() else array + 1e-4).tolist()


@pytest.mark.parametrize("kind", COMPARED)
def test_a_number_that_is_off_fails(kind: str) -> None:
    case = offered(kind)
    for name, value in case["outputs"].items():
        with pytest.raises(AssertionError, match=name):
            RUNNERS[kind]({**case, "outputs": {**case["outputs"], name: off(value)}})
