"""The admin's numbers against tables worked out by hand."""

from __future__ import annotations

import pytest
from made_votes import annotator, project, vote

from align.annotate.consistency import consistencies, left_rate, times, warnings
from align.annotate.report import Missing, agreement, build, matrix
from align.annotate.settings import AllocationSettings
from align.annotate.types import Vote
from align.evaluation.statistics import wilson
from align.types import Result


def _value(one: Result | Missing) -> float:
    assert isinstance(one, Result), one
    return one.value


def test_agreement_by_hand() -> None:
    """Ann: first first second second; Ben: first second second second: the table of two raters by hand.

    Percent 3/4, kappa 14/30, both alphas 16/30 (see the test of the coefficients), whichever side stood left:
    votes are canonical.
    """
    ann = [
        vote(pair, "ann", said) for pair, said in zip("wxyz", ("first",) * 2 + ("second",) * 2, strict=True)
    ]
    ben = [
        vote(pair, "ben", said, left="second")
        for pair, said in zip("wxyz", ("first", "second", "second", "second"), strict=True)
    ]
    found, scale = agreement([*ann, *ben])
    assert [_value(one) for one in found] == pytest.approx([3 / 4, 14 / 30, 16 / 30, 16 / 30])
    assert scale == 1
    assert all(isinstance(one, Result) and one.n == 4 for one in found)


def test_strength_makes_ranks() -> None:
    """Two steps a side: first by far -2, hardly -1, tie 0, second hardly 1, by far 2; both bad is no rank.

    (−2, −1), (−1, −1), (1, 1) are low, mid, high of the ordinal alpha worked out by hand: 7/9. The pair of
    which one says that both are bad has one rank only and is left out; it counts in the nominal ones.
    """
    votes = [
        vote("x", "ann", "first", strength=2),
        vote("x", "ben", "first", strength=1),
        vote("y", "ann", "first", strength=1),
        vote("y", "ben", "first", strength=1),
        vote("z", "ann", "second", strength=1),
        vote("z", "ben", "second", strength=1),
        vote("w", "ann", "both_bad"),
        vote("w", "ben", "tie"),
    ]
    found, scale = agreement(votes)
    assert scale == 2
    assert _value(found[3]) == pytest.approx(7 / 9)
    assert found[3].n == 3  # type: ignore[union-attr]
    assert _value(found[0]) == pytest.approx(3 / 4)  # x, y, z agree on the side; w does not


def test_strength_that_some_lack_is_left_alone() -> None:
    """Ranks of one step a side where one choice has no strength: nothing is made up."""
    votes = [vote("x", "ann", "first", strength=2), vote("x", "ben", "first"), vote("y", "ann", "tie")]
    assert agreement(votes)[1] == 1


def test_agreement_that_is_not_there_says_why() -> None:
    alone, _ = agreement([vote("x", "ann", "first")])
    assert [one.reason for one in alone if isinstance(one, Missing)] == [
        f"{name} compares votes, and no unit has two of them"
        for name in ("percent_agreement", "fleiss_kappa", "alpha_nominal", "alpha_ordinal")
    ]
    same, _ = agreement([vote("x", who, "first") for who in ("ann", "ben")])
    assert _value(same[0]) == 1
    assert all(isinstance(one, Missing) and "0/0" in one.reason for one in same[1:])


def test_only_votes_count_for_agreement() -> None:
    """Gold, checks, repeats, late answers, skipped and undone ones are no votes on a pair."""
    votes = [
        vote("x", "ann", "first"),
        vote("x", "ben", "first"),
        vote("x", "ann", "second", repeat=True, number=9),
        vote("x", "cat", "second", surplus=True),
        vote("x", "dan", "skip"),
        vote("x", "eve", "undone"),
        vote("g", "ann", "first", kind="gold", right_answer="first"),
        vote("g", "ben", "second", kind="gold", right_answer="first"),
        vote("a", "ann", "second", kind="attention", right_answer="first"),
    ]
    report = build(votes, [annotator("ann")], project(2, 2), AllocationSettings())
    assert _value(report.agreement[0]) == 1
    assert report.said == {"first": 2, "second": 0, "tie": 0, "both_bad": 0}
    assert len(report.judged_at) == 2


def test_one_annotator_by_hand() -> None:
    """Ann: gold right, wrong; check right; x as Ben and unlike Cat, y as Ben; x again the same; left 3 of 4.

    Left: x first (left), y second (right), gold g first (left), h second with the second on the left (left),
    x again with the sides the other way round (first on the right: right): 3 of 5. The check does not count.
    """
    votes = [
        vote("x", "ann", "first", seconds=10.0),
        vote("x", "ben", "first"),
        vote("x", "cat", "tie"),
        vote("y", "ann", "second", seconds=20.0),
        vote("y", "ben", "second"),
        vote("g", "ann", "first", kind="gold", right_answer="first", seconds=30.0),
        vote("h", "ann", "second", kind="gold", right_answer="tie", left="second", seconds=40.0),
        vote("a", "ann", "first", kind="attention", right_answer="first", seconds=1.0),
        vote("x", "ann", "first", repeat=True, left="second", number=7, seconds=50.0),
        vote("z", "ann", "skip", seconds=600.0),
    ]
    ann = consistencies(votes)["ann"]
    gold, attention, peers, repeats, left = ann.gold, ann.attention, ann.peers, ann.repeats, ann.left
    assert gold is not None
    assert (gold.value, gold.n) == (1 / 2, 2)
    assert attention is not None
    assert (attention.value, attention.n) == (1, 1)
    assert peers is not None
    assert (peers.value, peers.n) == (2 / 3, 2)  # three comparisons on two pairs
    assert repeats is not None
    assert (repeats.value, repeats.n) == (1, 1)
    assert left is not None
    interval = wilson(3, 5)
    assert (left.value, left.n, left.ci_low, left.ci_high) == pytest.approx(
        (3 / 5, 5, interval.low, interval.high)
    )
    assert ann.times is not None
    # 10, 20, 30, 40, 50 without the check and the skip: the 10 % point lies 0.4 of the way from 10 to 20
    assert (ann.times.n, ann.times.p10, ann.times.median, ann.times.p90) == pytest.approx((5, 14, 30, 46))
    cat = consistencies(votes)["cat"]
    assert cat.peers is not None
    assert (cat.peers.value, cat.gold, cat.repeats, cat.left, cat.times) == (0, None, None, None, None)


def test_left_rate_of_everybody() -> None:
    """Ties and skipped items choose no side: 2 left of 3."""
    votes = [
        vote("x", "ann", "first"),
        vote("y", "ann", "first", left="second"),
        vote("z", "ben", "second", left="second"),
        vote("w", "ben", "tie"),
        vote("v", "ben", "skip"),
    ]
    found = left_rate(votes)
    interval = wilson(2, 3)
    assert found is not None
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((2 / 3, interval.low, interval.high))
    assert left_rate(votes[3:]) is None
    assert times([]) is None


def test_matrix_by_hand() -> None:
    """Ann and Ben equal on one of two pairs, Ann and Cat on one of one; Ben and Cat differ on x."""
    votes = [
        vote("x", "ann", "first"),
        vote("x", "ben", "second"),
        vote("x", "cat", "first"),
        vote("y", "ann", "tie"),
        vote("y", "ben", "tie"),
    ]
    found = matrix(votes)
    assert found.names == ("ann", "ben", "cat")
    assert found.cells == {
        (0, 1): (1, 2),
        (1, 0): (1, 2),
        (0, 2): (1, 1),
        (2, 0): (1, 1),
        (1, 2): (0, 1),
        (2, 1): (0, 1),
    }
    many = [vote(f"p{k}", f"a{k:02}", "tie") for k in range(20)] + [vote("q", "a19", "tie")]
    assert matrix(many).left_out == 4
    assert "a19" in matrix(many).names


def _golds(right: int, wrong: int) -> list[Vote]:
    said = ["first"] * right + ["second"] * wrong
    return [
        vote(f"g{k}", "ann", one, kind="gold", right_answer="first", left="first" if k % 2 else "second")
        for k, one in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("votes", "settings", "expected"),
    [
        (_golds(3, 2), {"warn_below": 0.7}, ["60 % right on gold items (of 5), below 70 %"]),
        (_golds(2, 2), {"warn_below": 0.7}, []),  # judged_after=5 is not reached
        (
            _golds(2, 2),
            {"warn_below": 0.7, "judged_after": 4},
            ["50 % right on gold items (of 4), below 70 %"],
        ),
        (_golds(3, 2), {}, []),
        (
            [vote("a", "ann", "second", kind="attention", right_answer="first")],
            {},
            ["1 of 1 attention checks failed"],
        ),
        (
            # 18 of 20 left: Wilson from 0.699; 17 of 20 from 0.640
            [vote(f"x{k}", "ann", "first" if k < 18 else "second") for k in range(20)],
            {"left_beyond": 0.15},
            ["left in 90 % of 20 choices; its interval lies beyond 50 ± 15 %"],
        ),
        (
            [vote(f"x{k}", "ann", "first" if k < 17 else "second") for k in range(20)],
            {"left_beyond": 0.15},
            [],
        ),
        (
            [vote(f"x{k}", "ann", "second" if k < 18 else "first") for k in range(20)],
            {"left_beyond": 0.15},
            ["left in 10 % of 20 choices; its interval lies beyond 50 ± 15 %"],
        ),
        (
            [vote(f"x{k}", "ann", "tie", seconds=float(k)) for k in range(5)],
            {"too_fast_seconds": 3.0},
            ["median of 2.0 s an item, under 3 s"],
        ),
        (
            [vote("x", "ann", "tie"), vote("x", "ann", "first", repeat=True, number=5)],
            {"repeats_below": 0.5, "judged_after": 1},
            ["0 % the same answer to repeated items (of 1), below 50 %"],
        ),
    ],
)
def test_thresholds(votes: list[Vote], settings: dict[str, float], expected: list[str]) -> None:
    """What lies beyond a threshold is said; what does not, or rests on too few answers, is not."""
    allocation = AllocationSettings(**settings)  # type: ignore[arg-type]
    assert list(warnings(consistencies(votes)["ann"], allocation)) == expected
    report = build(votes, [annotator("ann"), annotator("ben", "for now")], project(), allocation)
    assert [person.status.name for person in report.warned()] == (["ann"] if expected else []) + ["ben"]


def test_flags_are_told_newest_first() -> None:
    votes = [
        vote("x", "ann", "skip", flag="broken", judged_at="2026-01-05T09:01:00.000Z"),
        vote("y", "ann", "tie", flag="unsafe", judged_at="2026-01-05T09:02:00.000Z"),
        vote("z", "ann", "tie"),
    ]
    report = build(votes, [annotator("ann")], project(), AllocationSettings())
    assert [one.flag for one in report.flagged] == ["unsafe", "broken"]
    assert report.people[0].flags == 2


def test_nothing_yet() -> None:
    """A project before its first answer has no numbers, and every one of them says so."""
    report = build([], [annotator("ann")], project(0, 10), AllocationSettings())
    assert all(isinstance(one, Missing) for one in report.agreement)
    assert (report.left, report.times, report.people[0].shown, report.results()) == (None, None, None, [])
