"""AlpacaEval's numbers out of annotations: those that were published, and a file made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import Made, values

from align.benchmarks.alpaca_eval import AlpacaEval
from align.errors import DataError


def annotations(tmp_path: Path, *preferences: float | None, **more: Any) -> str:
    """A row each; outputs of 3 and 5 characters."""
    rows = [
        {
            "instruction": f"q{place}",
            "output_1": "abc",
            "output_2": "abcde",
            "generator_2": "mine",
            "dataset": "odd" if place % 2 else "even",
            "preference": preference,
            **more,
        }
        for place, preference in enumerate(preferences)
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return str(path)


def test_draws_are_halves_and_unread_answers_are_no_losses(tmp_path: Path) -> None:
    """A win, a loss, draws as both versions have them, and two without a preference."""
    found = values(
        AlpacaEval(annotations(tmp_path, 2, 1, 0, 1.5, None, float("nan"))).measure("a", Made()).results
    )
    assert found["a/win_rate"] == 0.5
    assert found["a/standard_error"] == pytest.approx(np.std([1, 0, 0.5, 0.5], ddof=1) / 2)
    assert (found["a/draws"], found["a/unreadable"], found["a/empty"]) == (0.5, pytest.approx(1 / 3), 0.0)
    assert (found["a/longer_rate"], found["a/characters"]) == (1.0, 5.0)
    assert (found["a/win_rate/even"], found["a/win_rate/odd"]) == (0.75, 0.25)
    assert "a/win_rate_at_equal_length" not in found, "lengths are never seen equal"


def test_a_judge_that_weighs_its_answers(tmp_path: Path) -> None:
    results = AlpacaEval(annotations(tmp_path, 1.9, 1.2, 1.6)).measure("a", Made()).results
    win_rate = next(one for one in results if one.metric == "a/win_rate")
    assert win_rate.value == pytest.approx((0.9 + 0.2 + 0.6) / 3)
    assert win_rate.method == "clustered bootstrap"


def test_a_blank_output_is_counted(tmp_path: Path) -> None:
    found = values(AlpacaEval(annotations(tmp_path, 2, 1, output_2=" ")).measure("a", Made()).results)
    assert found["a/empty"] == 1.0


def test_rows_of_several_models_need_a_name(tmp_path: Path) -> None:
    one, other = (
        json.loads(Path(annotations(tmp_path, 2, 2, generator_2=name)).read_text()) for name in "ab"
    )
    for row in other:
        row["preference"] = 1
    path = tmp_path / "both.json"
    path.write_text(json.dumps(one + other))
    with pytest.raises(DataError, match="has several models, give generator, one of: a, b"):
        AlpacaEval(str(path)).measure("x", Made())
    assert values(AlpacaEval(str(path), "b").measure("x", Made()).results)["x/win_rate"] == 0.0
    with pytest.raises(DataError, match="has no model 'c', but a, b"):
        AlpacaEval(str(path), "c").measure("x", Made())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((2, 3), "unknown_preference: 'preference' is 0 or 1 to 2, not 3"),
        ((2, None), "1 preferences, a win rate takes two"),
    ],
)
def test_what_is_no_annotation_is_refused(tmp_path: Path, rows: tuple[float | None, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        AlpacaEval(annotations(tmp_path, *rows)).measure("x", Made())


@pytest.mark.realdata
def test_the_published_numbers(shared_data: Path) -> None:
    """Row ``gpt4`` of alpaca_eval's leaderboard for this annotator (data_AlpacaEval):
    win_rate 95.27950311, standard_error 0.71628144, 761 wins, 32 losses, 12 draws of 805, avg_length 1365.
    """
    measured = AlpacaEval(str(shared_data / "alpaca_eval" / "gpt4" / "annotations.json")).measure("a", Made())
    found = values(measured.results)
    assert 100 * found["a/win_rate"] == pytest.approx(95.27950311, abs=5e-9)
    assert 100 * found["a/standard_error"] == pytest.approx(0.71628144, abs=5e-9)
    assert found["a/draws"] * 805 == pytest.approx(12)
    outcomes = [one["outcome"] for one in measured.items]
    assert (outcomes.count(1.0), outcomes.count(0.0), len(outcomes)) == (761, 32, 805)
    assert int(found["a/characters"]) == 1365
    assert (found["a/unreadable"], found["a/empty"]) == (0.0, 0.0)


@pytest.mark.realdata
def test_at_equal_length_the_fit_is_sklearns(shared_data: Path) -> None:
    """An unpenalised logistic regression on tanh of the standardised difference; draws are two half rows."""
    from sklearn.linear_model import LogisticRegression

    measured = AlpacaEval(str(shared_data / "alpaca_eval" / "gpt4" / "annotations.json")).measure("a", Made())
    y = np.array([one["outcome"] for one in measured.items])
    gap = np.array([one["length"] - one["baseline_length"] for one in measured.items], float)
    x = np.tanh(gap / gap.std(ddof=1))[:, None]
    fit = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    fit.fit(np.r_[x, x], np.r_[np.ones(len(y)), np.zeros(len(y))], sample_weight=np.r_[y, 1 - y])
    expected = 1 / (1 + np.exp(-fit.intercept_[0]))
    assert values(measured.results)["a/win_rate_at_equal_length"] == pytest.approx(expected, abs=1e-5)
