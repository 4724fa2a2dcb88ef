"""Labels turned round: which, how many, and what that does to their accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from benches import TRUTH, bench, found, pairs, toy_records

from align.collect._bench import Collected
from align.collect.noise import Noise
from align.types import PreferenceRecord

TURNED = {"first": "second", "second": "first"}


def noisy(rate: float, seed: int = 0, count: int = 600) -> Collected:
    return found(Noise(rate, seed).open(bench())(pairs(toy_records(count)), 7))


def flipped(collected: Collected) -> set[str]:
    return {one.id for one in collected.records if one.details["flipped"]}


def test_only_the_label_changes_and_the_record_says_so():
    for before, after in zip(toy_records(600), noisy(0.3).records, strict=True):
        flip = after.details["flipped"]
        assert after.preferred == (TURNED[before.preferred] if flip else before.preferred)
        same = {"preferred": before.preferred, "method": before.method, "details": before.details}
        assert replace(after, **same) == before
        assert after.details["noise"] == {"rate": 0.3, "seed": 0}


def test_a_larger_rate_flips_the_same_and_more():
    sets = [flipped(noisy(rate)) for rate in (0.0, 0.1, 0.3, 1.0)]
    assert len(sets[0]) == 0
    assert len(sets[3]) == 600
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_neither_order_nor_company_matters():
    """A record that stands alone is flipped as it is among others, whatever the chunk's seed."""
    method = Noise(0.3)
    together = flipped(noisy(0.3))
    for record in toy_records(600)[::50]:
        ((alone,),) = method.open(bench())(pairs([record]), 99)
        assert isinstance(alone, PreferenceRecord)
        assert alone.details["flipped"] == (record.id in together)


def test_another_seed_flips_others():
    """Two independent draws at 0.3 share 0.09 of 600, within four standard deviations."""
    shared = len(flipped(noisy(0.3)) & flipped(noisy(0.3, seed=1)))
    assert abs(shared - 54) < 4 * (600 * 0.09 * 0.91) ** 0.5


def test_ties_stay_ties():
    tie = replace(toy_records(1)[0], preferred="tie")
    ((after,),) = Noise(1.0).open(bench())(pairs([tie]), 0)
    assert isinstance(after, PreferenceRecord)
    assert (after.preferred, after.details["flipped"]) == ("tie", False)


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_the_report_beside_the_truth(rate: float):
    """a (1 - r) + (1 - a) r; the accuracy itself lies within its sampling error."""
    collected = noisy(rate)
    results = {one.metric: one for one in Noise(rate).report(collected, TRUTH)}
    assert results["noise/asked"].value == rate
    low, high = results["noise/rate"].ci_low, results["noise/rate"].ci_high
    assert low is not None
    assert high is not None
    assert low < rate < high
    before, after = agreement(toy_records(600)), agreement(collected.records)
    assert results["noise/accuracy_before"].value == pytest.approx(before)
    expected = results["labels/expected_accuracy"].value
    assert expected == pytest.approx(before * (1 - rate) + (1 - before) * rate)
    assert abs(after - expected) < 4 * (rate * (1 - rate) / 600) ** 0.5


def agreement(records: Sequence[PreferenceRecord]) -> float:
    """Share of the labels that the gold agrees with, a tie of its own counted half."""
    total = 0.0
    for one in records:
        first, second = TRUTH.gold.score([one.prompt] * 2, [reply.text for reply in one.replies])
        total += 0.5 if first == second else (first > second) == (one.preferred == "first")
    return total / len(records)


def test_no_pairs_no_report():
    assert Noise().report(found([]), TRUTH) == []
