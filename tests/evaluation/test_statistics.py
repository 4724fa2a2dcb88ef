"""Intervals against numbers worked out by hand, published tables, and their own definition."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import DataError, NonFiniteError
from align.evaluation import statistics as stats

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "parity.json"
Z = NormalDist().inv_cdf(0.975)

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40)
score_pairs = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=40)


def test_wilson_solves_its_own_equation() -> None:
    """The bounds are the p with (p^ - p)^2 = z^2 p(1 - p)/n: 8 of 10, by substitution."""
    interval = stats.wilson(8, 10)
    for p in (interval.low, interval.high):
        assert (0.8 - p) ** 2 == pytest.approx(Z**2 * p * (1 - p) / 10, rel=1e-12)
    assert interval.low < 0.8 < interval.high


def test_wilson_matches_newcombes_published_table() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3, four decimals as printed."""
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = stats.wilson(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_none_and_all() -> None:
    """No success: from 0 to z^2/(n + z^2); all of them is its mirror image."""
    assert stats.wilson(0, 20).low == 0.0
    assert stats.wilson(0, 20).high == pytest.approx(Z**2 / (20 + Z**2), rel=1e-12)
    assert stats.wilson(20, 20).high == 1.0
    assert stats.wilson(20, 20).low == pytest.approx(20 / (20 + Z**2), rel=1e-12)


def test_tango_solves_its_own_equation() -> None:
    """At both bounds the score statistic (Tango 1998, eq. 5) of 12 wins and 14 losses in 44 is -/+ z.

    The likelihood's nuisance P(loss) is found by brute force here, not by his closed form.
    """
    wins, losses, n = 12, 14, 44
    interval = stats.tango(wins, losses, n)
    for p, sign in ((interval.low, 1), (interval.high, -1)):
        d = 2 * p - 1
        q = np.linspace(max(0.0, -d), (1 - d) / 2, 2_000_001)[1:-1]
        likelihood = wins * np.log(q + d) + losses * np.log(q) + (n - wins - losses) * np.log(1 - 2 * q - d)
        best = q[np.argmax(likelihood)]
        statistic = (wins - losses - n * d) / math.sqrt(n * (2 * best + d * (1 - d)))
        assert statistic == pytest.approx(sign * Z, abs=1e-5)


@pytest.mark.parametrize(("wins", "n"), [(0, 12), (3, 12), (12, 12), (61, 100)])
def test_tango_without_ties_is_wilson(wins: int, n: int) -> None:
    tango, wilson = stats.tango(wins, n - wins, n), stats.wilson(wins, n)
    assert (tango.low, tango.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_ties_only_still_leave_room_for_doubt() -> None:
    """No win and no loss in n: |d| <= z^2/(n + z^2) (set q = 0 in Tango's statistic), half of it in p."""
    interval = stats.tango(0, 0, 10)
    half = Z**2 / (10 + Z**2) / 2
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


def test_win_rate_agrees_with_alpaca_eval() -> None:
    """Their code on ten preferences: 1 the baseline, 2 the model, 1.5 (formerly 0) a draw; in per cent."""
    cases = json.loads(FIXTURE.read_text())["cases"]
    case = next(case for case in cases if case["name"] == "alpaca_eval/describe_head2head/discrete")
    ours = [{1: 0.0, 2: 1.0}.get(one, 0.5) for one in case["inputs"]["preferences"]]
    theirs = [1 - one for one in ours]
    result, expected = stats.paired_win_rate("win_rate", ours, theirs), case["outputs"]
    assert 100 * result.value == pytest.approx(expected["win_rate"], rel=case["rtol"])
    assert 100 * stats.standard_error(ours) == pytest.approx(expected["standard_error"], rel=case["rtol"])
    assert result.n == expected["n_total"]
    assert result.method == "tango"


def test_win_rate_counts_ties_half() -> None:
    """Two wins, one tie, one loss: (2 + 1/2)/4."""
    result = stats.paired_win_rate("w", [3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    assert (result.value, result.n, result.method) == (0.625, 4, "tango")
    decided = stats.paired_win_rate("w", [3.0, 2.0], [1.0, 4.0])
    wilson = stats.wilson(1, 2)
    assert decided.method == "wilson"
    assert (decided.ci_low, decided.ci_high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


@given(score_pairs)
def test_win_rate_is_symmetric(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    there, back = stats.paired_win_rate("w", ours, theirs), stats.paired_win_rate("w", theirs, ours)
    assert there.value == pytest.approx(1 - back.value, abs=1e-12)
    assert there.ci_low == pytest.approx(1 - (back.ci_high or 0), abs=1e-12)
    assert there.ci_high == pytest.approx(1 - (back.ci_low or 0), abs=1e-12)


@given(score_pairs, st.data())
def test_win_rate_interval_holds_the_value_and_stays_in_range(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    ours, theirs = zip(*pairs, strict=True)
    keys = data.draw(st.none() | st.lists(st.integers(0, 5), min_size=len(pairs), max_size=len(pairs)))
    result = stats.paired_win_rate("w", ours, theirs, clusters=keys)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert 0 <= result.ci_low <= result.value <= result.ci_high <= 1


@settings(max_examples=30, deadline=None)
@given(scores, st.randoms())
def test_order_does_not_matter(values: list[float], random: object) -> None:
    """Bit for bit, the seeded bootstrap included, with and without clusters."""
    keys = [index % 7 for index in range(len(values))]
    rows = list(zip(values, keys, strict=True))
    random.shuffle(rows)  # type: ignore[attr-defined]
    shuffled, shuffled_keys = [row[0] for row in rows], [row[1] for row in rows]
    assert stats.mean("m", values) == stats.mean("m", shuffled)
    assert stats.mean("m", values, keys) == stats.mean("m", shuffled, shuffled_keys)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_mean_interval_holds_the_mean(values: list[float]) -> None:
    result = stats.mean("m", values)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert result.ci_low <= result.value <= result.ci_high
    assert result.value == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-300)


def test_mean_interval_approaches_the_normal_one() -> None:
    """500 normal values: bootstrap-t within 5 % of mean -/+ 1.96 standard errors."""
    values = np.random.default_rng(3).normal(2.0, 3.0, size=500)
    interval, error = stats.mean_interval(values), stats.standard_error(values)
    expected = stats.normal(float(values.mean()), error)
    assert interval.low == pytest.approx(expected.low, abs=0.05 * 2 * Z * error)
    assert interval.high == pytest.approx(expected.high, abs=0.05 * 2 * Z * error)


def test_normal_interval() -> None:
    """10 -/+ 1.959964 * 2."""
    interval = stats.normal(10.0, 2.0)
    assert (interval.low, interval.high) == pytest.approx((6.080072, 13.919928), abs=1e-6)


def test_paired_difference_is_narrower_than_its_sides() -> None:
    """Ours is theirs plus one, exactly: no doubt is left, however the sides vary."""
    theirs = np.random.default_rng(0).normal(0, 10, size=50).round(3)
    result = stats.paired_difference("d", theirs + 1, theirs)
    assert result.value == pytest.approx(1.0, abs=1e-12)
    assert result.ci_high is not None
    assert result.ci_low is not None
    assert result.ci_high - result.ci_low < 1e-9


def test_a_repeated_prompt_is_one_unit() -> None:
    """Each value four times over: n is the number of prompts and the interval that of the prompts alone."""
    alone = np.random.default_rng(1).exponential(size=60)
    repeated, keys = np.repeat(alone, 4), np.repeat(np.arange(60), 4).tolist()
    clustered, naive = stats.mean("m", repeated, keys), stats.mean("m", repeated)
    single = stats.mean("m", alone)
    assert clustered.n == 60
    assert clustered.method == "clustered bootstrap"
    assert clustered.value == pytest.approx(single.value, rel=1e-12)
    assert (clustered.ci_low, clustered.ci_high) == pytest.approx((single.ci_low, single.ci_high), rel=1e-9)
    assert (naive.ci_high or 0) - (naive.ci_low or 0) < 0.6 * ((single.ci_high or 0) - (single.ci_low or 0))


def test_a_proportion_over_repeated_prompts_has_the_prompts_width() -> None:
    """30 of 40 prompts won, each asked five times with the same outcome: Wilson's interval of about 40.

    The linearised variance divides by 39 and not 40, so the effective size is 39 exactly.
    """
    outcomes, keys = np.repeat([1.0] * 30 + [0.0] * 10, 5), np.repeat(np.arange(40), 5).tolist()
    result = stats.proportion("p", outcomes, keys)
    expected = stats.wilson(0.75 * 39, 39)
    assert (result.n, result.method) == (40, "wilson, by cluster")
    assert (result.ci_low, result.ci_high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_all_wins_over_few_prompts_claim_no_more_than_the_prompts() -> None:
    """100 wins over 4 prompts: as sure as 4 wins, not as 100."""
    result = stats.proportion("p", [1.0] * 100, [index % 4 for index in range(100)])
    assert result.ci_low == pytest.approx(4 / (4 + Z**2), abs=1e-9)


def test_a_rare_large_value_does_not_blow_the_interval_up() -> None:
    """99 zeros and one 1: a third of the resamples draw only zeros. Poisson's exact bounds: 0.0003, 0.056."""
    interval = stats.mean_interval([0.0] * 99 + [1.0])
    assert 0.03 < interval.high < 0.1
    assert -0.03 < interval.low < 0.01


def test_one_value_has_no_interval() -> None:
    result = stats.mean("m", [2.5])
    assert (result.value, result.n, result.ci_low, result.ci_high, result.method) == (
        2.5,
        1,
        None,
        None,
        "exact",
    )


def test_equal_values_have_an_interval_of_no_width() -> None:
    result = stats.mean("m", [0.1] * 30)
    assert result.ci_low == result.value == result.ci_high == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_interval_and_another_a_close_one() -> None:
    values = np.random.default_rng(2).exponential(size=200)
    first, again, other = (stats.mean_interval(values, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.low == pytest.approx(other.low, abs=0.2 * stats.standard_error(values))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_refused_by_place(bad: float) -> None:
    with pytest.raises(NonFiniteError, match=r"dpo/kl: 1 of 3 values are not finite.*value 1"):
        stats.mean("dpo/kl", [0.0, bad, 1.0])
    with pytest.raises(NonFiniteError, match="theirs"):
        stats.paired_win_rate("w", [0.0, 1.0], [0.0, bad])
    with pytest.raises(NonFiniteError):
        stats.proportion("p", [bad, 1.0])


def test_what_cannot_be_summarised_is_refused() -> None:
    with pytest.raises(DataError, match="no values"):
        stats.mean("m", [])
    with pytest.raises(DataError, match="2 of ours and 1 of theirs"):
        stats.paired_difference("d", [1.0, 2.0], [1.0])
    with pytest.raises(DataError, match=r"0, 0\.5 or 1"):
        stats.proportion("p", [0.3])
    with pytest.raises(DataError, match="one key a value"):
        stats.mean("m", [1.0, 2.0], clusters=["a"])
    with pytest.raises(DataError, match=r"shape \(1, 2\)"):
        stats.mean("m", [[1.0, 2.0]])
    with pytest.raises(DataError, match="two independent values"):
        stats.standard_error([1.0])
    with pytest.raises(ValueError, match="successes"):
        stats.wilson(3, 2)
    with pytest.raises(ValueError, match="wins"):
        stats.tango(2, 2, 3)
    with pytest.raises(ValueError, match="confidence"):
        stats.wilson(1, 2, confidence=95)
