"""Sides and checks: balanced at every point, exact over time, and not to be guessed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.annotate.draws import first_left, is_due, window

SECRET = "5e" * 32


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=8), st.integers(1, 200))
def test_the_sides_are_balanced_at_every_point(annotator: str, count: int) -> None:
    lefts = sum(first_left(SECRET, annotator, number) for number in range(1, count + 1))
    assert abs(lefts - count / 2) <= 1


def test_nobody_can_tell_the_next_side() -> None:
    """Over 400 annotators each place in a block is a fair coin (four standard deviations).

    And a side follows its own kind one time in three within a block: of the three left, one is alike.
    """
    names = [f"annotator {number}" for number in range(400)]
    sides = [[first_left(SECRET, name, number) for number in range(1, 5)] for name in names]
    for place in range(4):
        assert abs(sum(side[place] for side in sides) - 200) < 4 * math.sqrt(400 / 4)
    same = sum(side[0] == side[1] for side in sides)
    assert abs(same - 400 / 3) < 4 * math.sqrt(400 * 1 / 3 * 2 / 3)
    assert sides != [[first_left("0f" * 32, name, number) for number in range(1, 5)] for name in names]


@pytest.mark.parametrize(
    ("share", "windows"),
    [
        (0.1, [(1, 10), (11, 20), (21, 30)]),
        (0.3, [(1, 4), (5, 7), (8, 10), (11, 14)]),  # 3 in 10
        (0.9, [(1, 2), (3, 3), (4, 4)]),
    ],
)
def test_windows_follow_each_other(share: float, windows: list[tuple[int, int]]) -> None:
    found = [window(share, number) for number in range(1, windows[-1][1] + 1)]
    assert list(dict.fromkeys(found)) == windows
    assert all(first <= number <= last for number, (first, last) in enumerate(found, 1))


@settings(max_examples=25, deadline=None)
@given(st.fractions(0, 1, max_denominator=1000).filter(lambda share: 0 < share < 1), st.integers(1, 300))
def test_a_share_is_exact_over_time(share: float, count: int) -> None:
    """One in each window: what is given after n items differs from share * n by less than one."""
    given_so_far, last = 0, 0
    for number in range(1, count + 1):
        if is_due(SECRET, "anna", "gold", float(share), number, last):
            given_so_far, last = given_so_far + 1, number
    assert abs(given_so_far - share * count) <= 1


def test_a_check_that_had_to_wait_comes_later_in_its_window() -> None:
    due = [number for number in range(1, 11) if is_due(SECRET, "anna", "gold", 0.1, number, 0)]
    assert due == list(range(due[0], 11))
    assert not is_due(SECRET, "anna", "gold", 0.1, 10, last=1)
    for nothing in (0.0, 1e-9):
        assert not any(is_due(SECRET, "anna", "gold", nothing, number, 0) for number in range(1, 100))


def test_what_is_due_is_drawn_anew_for_each_person_and_kind() -> None:
    def first_due(annotator: str, what: str) -> int:
        return next(number for number in range(1, 21) if is_due(SECRET, annotator, what, 0.05, number, 0))

    assert len({first_due(f"annotator {number}", "gold") for number in range(40)}) > 10
    assert any(
        first_due(f"annotator {number}", "gold") != first_due(f"annotator {number}", "repeat")
        for number in range(5)
    )
