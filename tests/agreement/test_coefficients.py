"""Agreement against published tables, tables worked out by hand, and the bootstrap's own definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from align.agreement.coefficients import (
    Coefficient,
    Undefined,
    bootstrap,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
)
from align.agreement.table import CountTable, table_of_counts, table_of_votes
from align.errors import DataError

COEFFICIENTS: list[Coefficient] = ["percent_agreement", "fleiss_kappa", "alpha_nominal", "alpha_ordinal"]

FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""The example that is passed on with Fleiss' kappa: ten subjects, fourteen raters, five categories."""

tables = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=12)


def _read(text: str, categories: str) -> CountTable:
    """A reliability matrix as papers print it: a row an observer, a column a unit, a dot for no value."""
    rows = [row.split() for row in text.strip().splitlines()]
    votes = [(u, a, value) for a, row in enumerate(rows) for u, value in enumerate(row) if value != "."]
    return table_of_votes(votes, categories)


def test_two_raters_and_four_units_by_hand() -> None:
    """Ann: a a b b; Ben: a b b b. Equal on three of four units: P = 3/4.

    Shares of a: 1, 1/2, 0, 0, mean 3/8; of b 5/8: Pe = 9/64 + 25/64 = 34/64. kappa = (48 - 34)/(64 - 34)
    = 14/30. Of 8 values 3 are a, 5 b. Coincidences of a with b: 1 either way, so Do = 2/8; expected
    2 * 3 * 5/(8 * 7) = 30/56; alpha = 1 - (1/4)(56/30) = 16/30. Two values on a scale are one step apart
    whatever the step, so ordinal is nominal.
    """
    table = _read("a a b b\na b b b", "ab")
    assert percent_agreement(table) == pytest.approx(3 / 4, abs=1e-12)
    assert fleiss_kappa(table) == pytest.approx(14 / 30, abs=1e-12)
    assert krippendorff_alpha(table) == pytest.approx(16 / 30, abs=1e-12)
    assert krippendorff_alpha(table, "ordinal") == pytest.approx(16 / 30, abs=1e-12)


def test_three_raters_who_differ_in_number_by_hand() -> None:
    """Unit 1: a a b, unit 2: b b, unit 3: a alone. P = (1/3 + 1)/2 = 2/3; the third unit says nothing.

    Shares of a: 2/3 and 0, mean 1/3: Pe = 1/9 + 4/9 = 5/9, kappa = (6 - 5)/(9 - 5) = 1/4. Coincidences: unit
    1 has 3 * 2 ordered pairs weighing 1/2: aa 1, ab 1, ba 1; unit 2 bb 2. n = 5, of a 2, of b 3:
    Do = 2/5, De = 2 * 2 * 3/(5 * 4) = 3/5, alpha = 1/3.
    """
    table = _read("a b a\na b .\nb . .", "ab")
    assert percent_agreement(table) == pytest.approx(2 / 3, abs=1e-12)
    assert fleiss_kappa(table) == pytest.approx(1 / 4, abs=1e-12)
    assert krippendorff_alpha(table) == pytest.approx(1 / 3, abs=1e-12)
    assert bootstrap("percent_agreement", table).n == 2


def test_ordinal_by_hand() -> None:
    """Two raters, low mid high: (low, mid), (mid, mid), (high, high). n = 6: 1 low, 3 mid, 2 high.

    Squared differences: low-mid (1/2 + 3/2)^2 = 4, mid-high (3/2 + 1)^2 = 25/4, low-high (1/2 + 3 + 1)^2 =
    81/4. Observed: low-mid once either way, 2 * 4 = 8, over 6. Expected: 2 (1*3*4 + 3*2*25/4 + 1*2*81/4) =
    2 (12 + 37.5 + 40.5) = 180, over 6 * 5. alpha = 1 - (8/6)/(180/30) = 7/9.
    """
    table = _read("l m h\nm m h", "lmh")
    assert krippendorff_alpha(table, "ordinal") == pytest.approx(7 / 9, abs=1e-12)


def test_fleiss_example() -> None:
    """P = 0.378, Pe = 0.213, kappa = 0.210, as printed."""
    table = table_of_counts(FLEISS)
    assert percent_agreement(table) == pytest.approx(0.378, abs=5e-4)
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_published_examples() -> None:
    """Krippendorff (2011): C, two observers: nominal 0.692. D, four, values missing: 0.743, ordinal 0.815.

    The last is the three-coder matrix that encyclopaedias give: nominal 0.691.
    """
    two = _read("a a b b d c c c e d d a\nb a b b b c c c e d d d", "abcde")
    assert krippendorff_alpha(two) == pytest.approx(0.692, abs=5e-4)
    four = _read(
        "1 2 3 3 2 1 4 1 2 . . .\n1 2 3 3 2 2 4 1 2 5 . 3\n. 3 3 3 2 3 4 2 2 5 1 .\n1 2 3 3 2 4 4 1 2 5 1 .",
        "12345",
    )
    assert krippendorff_alpha(four) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(four, "ordinal") == pytest.approx(0.815, abs=5e-4)
    three = _read(
        ". . . . . 3 4 1 2 1 1 3 3 . 3\n1 . 2 1 3 3 4 3 . . . . . . .\n. . 2 1 3 4 4 . 2 1 1 3 3 . 4", "1234"
    )
    assert krippendorff_alpha(three) == pytest.approx(0.691, abs=5e-4)


@given(tables, st.integers(2, 5))
def test_kappa_and_alpha_of_equally_many_votes(rows: list[list[int]], votes: int) -> None:
    """With n values in all, De is (1 - Pe) n/(n - 1), and so alpha = kappa + (1 - kappa)/n exactly."""
    counts = [[*row[:2], votes - row[0] - row[1]] for row in rows if row[0] + row[1] <= votes]
    assume(counts and np.count_nonzero(np.sum(counts, 0)) > 1)
    table = table_of_counts(counts)
    kappa, n = fleiss_kappa(table), votes * len(counts)
    assert krippendorff_alpha(table) == pytest.approx(kappa + (1 - kappa) / n, abs=1e-9)


@settings(max_examples=40)
@given(tables, st.permutations([0, 1, 2]), st.randoms())
def test_names_and_order_do_not_matter(rows: list[list[int]], columns: list[int], shuffle: object) -> None:
    """No order of units shows, none of the categories but in the ordinal alpha, which may be mirrored."""
    assume(any(sum(row) >= 2 for row in rows))
    table, mixed = table_of_counts(rows), rows.copy()
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    for coefficient in COEFFICIENTS:
        try:
            expected = bootstrap(coefficient, table, resamples=20)
        except Undefined:
            continue
        assert bootstrap(coefficient, table_of_counts(mixed), resamples=20) == expected
        order = [2, 1, 0] if coefficient == "alpha_ordinal" else columns
        renamed = table_of_counts(np.array(rows)[:, order])
        assert bootstrap(coefficient, renamed, resamples=1).value == pytest.approx(expected.value, abs=1e-9)


def test_votes_and_counts_make_one_table() -> None:
    """Fleiss' subjects as 140 votes: the same counts, so the same kappa."""
    votes = [
        (unit, rater, category)
        for unit, row in enumerate(FLEISS)
        for rater, category in enumerate(np.repeat(range(5), row).tolist())
    ]
    table = table_of_votes(votes, range(5))
    assert table.counts_UC.tolist() == FLEISS
    assert table_of_votes(votes).categories == (4, 1, 2, 3, 0)  # as they appear


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_nobody_to_agree_with(coefficient: Coefficient) -> None:
    """One rater, or one vote a unit: there is nothing to compare, and that is said."""
    for table in (_read("a b a", "ab"), _read("a .\n. b", "ab"), table_of_counts([[0, 0]])):
        with pytest.raises(Undefined, match="no unit has two"):
            bootstrap(coefficient, table)


def test_everybody_says_the_same_of_everything() -> None:
    """All of it agrees, and so would chance: percent is 1, kappa and alpha are 0/0 and say so."""
    table = _read("a a a\na a a", "ab")
    result = bootstrap("percent_agreement", table)
    assert (result.value, result.ci_low, result.ci_high) == (1, 1, 1)
    for coefficient in COEFFICIENTS[1:]:
        with pytest.raises(Undefined, match=r"0/0: every vote is 'a'"):
            bootstrap(coefficient, table)


def test_an_interval_that_cannot_be_known_is_not_given() -> None:
    """Of twenty units one is not all a: (19/20)^20 = 36 % of resamples miss it and have no kappa."""
    table = table_of_counts([[2, 0]] * 19 + [[1, 1]])
    result = bootstrap("fleiss_kappa", table)
    assert (result.ci_low, result.ci_high, result.method) == (None, None, "exact")
    assert bootstrap("percent_agreement", table).method == "bootstrap"
    assert bootstrap("fleiss_kappa", table_of_counts([[1, 1]])).method == "exact"


@pytest.mark.parametrize(
    ("coefficient", "plain"),
    [
        ("percent_agreement", percent_agreement),
        ("fleiss_kappa", fleiss_kappa),
        ("alpha_nominal", krippendorff_alpha),
        ("alpha_ordinal", lambda table: krippendorff_alpha(table, "ordinal")),
    ],
)
def test_bootstrap_is_its_definition(coefficient: Coefficient, plain: object) -> None:
    """Each resample drawn as rows, the coefficient of each by itself, then their percentiles."""
    counts = np.array(FLEISS)
    counts = counts[np.lexsort(counts.T)]
    rng = np.random.default_rng(3)
    values = [plain(table_of_counts(counts[rng.integers(10, size=10)])) for _ in range(3000)]  # type: ignore[operator]
    result = bootstrap(coefficient, table_of_counts(FLEISS), seed=4, resamples=30_000)
    error = 4 * float(np.std(values)) * 2.7 / np.sqrt(3000)  # of a 2.5 % point: sqrt(.025 * .975)/phi(1.96)
    assert result.ci_low == pytest.approx(np.quantile(values, 0.025), abs=error)
    assert result.ci_high == pytest.approx(np.quantile(values, 0.975), abs=error)
    assert result.value == plain(table_of_counts(FLEISS))  # type: ignore[operator]


@pytest.mark.medium
def test_intervals_cover_what_is_true() -> None:
    """Two raters who are right 80 % of the time on two equally frequent classes.

    They agree with 0.8^2 + 0.2^2 = 0.68, and beyond chance with (0.68 - 0.5)/0.5 = 0.36. Of 300 intervals
    the binomial leaves 95 % between 0.925 and 0.975; percentiles of 80 units fall short by a point or two.
    """
    rng = np.random.default_rng(0)
    inside = {"percent_agreement": 0, "fleiss_kappa": 0, "alpha_nominal": 0}
    truths = {"percent_agreement": 0.68, "fleiss_kappa": 0.36, "alpha_nominal": 0.36}
    for _ in range(300):
        classes = rng.integers(2, size=80)
        votes = np.where(rng.random((80, 2)) < 0.8, classes[:, None], 1 - classes[:, None]).sum(-1)
        table = table_of_counts(np.stack([2 - votes, votes], axis=1))
        for name in inside:
            result = bootstrap(name, table, resamples=1000)  # type: ignore[arg-type]
            assert result.ci_low is not None
            assert result.ci_high is not None
            inside[name] += result.ci_low <= truths[name] <= result.ci_high
    assert all(0.90 <= count / 300 <= 0.98 for count in inside.values()), inside


def test_tables_that_are_none() -> None:
    with pytest.raises(DataError, match="whole numbers"):
        table_of_counts([[0.5, 1]])
    with pytest.raises(DataError, match="as many categories"):
        table_of_counts([[1, 1]], ["a"])
    with pytest.raises(DataError, match="two votes on unit 'u'"):
        table_of_votes([("u", "ann", "a"), ("u", "ann", "b")])
    with pytest.raises(DataError, match="none of"):
        table_of_votes([("u", "ann", "c")], "ab")
