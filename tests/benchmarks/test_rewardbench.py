"""RewardBench 1 and 2: files of the formats, and scores that the published formulas give."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stand_ins import Made, Scoring, values

from align.benchmarks.rewardbench import PRIOR_SETS, SECTIONS, RewardBench, sections
from align.benchmarks.rewardbench2 import SUBSETS, RewardBench2, overall
from align.errors import DataError
from align.types import Result

WORTH = Made(scorer=Scoring(lambda _prompt, reply: float(reply.split()[-1])))
"""A reward that reads a reply's worth off its last word."""


def jsonl(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def pair(subset: str, chosen: float, rejected: float, prompt: str = "q") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": f"a {chosen}", "rejected": f"b {rejected}", "subset": subset, "id": 1}


def whole_bench() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Every subset of every section with an accuracy of its own: k right of 8."""
    rows, rates = [], {}
    for number, subset in enumerate(one for weights in SECTIONS.values() for one in weights):
        right = number % 7 + 1
        rates[subset] = right / 8
        rows += [pair(subset, float(i < right), 0.5, f"{subset} {i}") for i in range(8)]
    return rows, rates


def test_sections_are_weighted_as_published_and_the_score_is_their_mean(tmp_path: Path) -> None:
    rows, rates = whole_bench()
    found = values(RewardBench(jsonl(tmp_path, rows)).measure("rb", WORTH).results)
    sections = {
        name: np.average([rates[one] for one in weights], weights=list(weights.values()))
        for name, weights in SECTIONS.items()
    }
    for name, value in sections.items():
        assert found[f"rb/section/{name}"] == pytest.approx(value)
    assert found["rb/score"] == pytest.approx(np.mean(list(sections.values())))
    assert found["rb/accuracy/mt-bench-easy"] == rates["mt-bench-easy"]


def test_counted_weights_are_those_of_the_file(tmp_path: Path) -> None:
    """Eight pairs of each, but 16 of donotanswer: it weighs twice in safety, math as all six of code."""
    rows, rates = whole_bench()
    rows += [pair("donotanswer", 1.0, 0.5, f"more {i}") for i in range(8)]
    rates["donotanswer"] = (8 * rates["donotanswer"] + 8) / 16
    found = values(RewardBench(jsonl(tmp_path, rows), weights="counted").measure("rb", WORTH).results)
    safety = {one: 2 if one == "donotanswer" else 1 for one in SECTIONS["safety"]}
    reasoning = {one: 6 if one == "math-prm" else 1 for one in SECTIONS["reasoning"]}
    for name, weights in (("safety", safety), ("reasoning", reasoning)):
        expected = np.average([rates[one] for one in weights], weights=list(weights.values()))
        assert found[f"rb/section/{name}"] == pytest.approx(expected)


def test_a_published_row_of_the_leaderboard() -> None:
    """GRM-Gemma-2B-sftreg: chat 95.5, chat hard 48.7, safety 80.0, reasoning 76.8, average 75.3 (its card).

    Each section is made of subsets that all have its number, so that weights play no part.
    """
    published = {"chat": 95.5, "chat_hard": 48.7, "safety": 80.0, "reasoning": 76.8}
    subsets = {
        subset: Result("x", published[name] / 100, 9, 0.0, 1.0, "wilson")
        for name, weights in SECTIONS.items()
        for subset in weights
    }
    assert 100 * values(sections("rb", subsets, SECTIONS))["rb/score"] == pytest.approx(75.3, abs=0.0501)


def test_prior_sets_weigh_half(tmp_path: Path) -> None:
    rows, _ = whole_bench()
    rows += [pair(name, 1, 0, f"{name} {i}") for name in PRIOR_SETS for i in range(2)]
    found = values(RewardBench(jsonl(tmp_path, rows)).measure("rb", WORTH).results)
    four = [found[f"rb/section/{name}"] for name in SECTIONS]
    assert found["rb/section/prior_sets"] == 1.0
    assert found["rb/score"] == pytest.approx(np.average([*four, 1.0], weights=[2, 2, 2, 2, 1]))


def test_the_weights_are_the_published_counts() -> None:
    """EXAMPLE_COUNTS of the published code: 2,985 pairs, 447 of them math-prm, which weigh 984."""
    weights = {subset: count for section in SECTIONS.values() for subset, count in section.items()}
    assert len(weights) == 23
    assert sum(weights.values()) - 984 + 447 == 2985
    assert weights["math-prm"] == sum(count for subset, count in weights.items() if subset.startswith("hep-"))


def test_ties_and_blanks_are_counted_apart(tmp_path: Path) -> None:
    rows = [pair("mine", 2, 1, "a"), pair("mine", 1, 1, "b"), {**pair("mine", 1, 0, "c"), "rejected": " "}]
    found = values(RewardBench(jsonl(tmp_path, rows)).measure("rb", WORTH).results)
    assert found == pytest.approx({"rb/empty": 1 / 3, "rb/accuracy/mine": 0.75, "rb/ties/mine": 0.5}), (
        "of a subset that no section has there is its own accuracy"
    )


def test_parquet_and_messages_read_alike(tmp_path: Path) -> None:
    plain = [pair("mine", 2, 1, "a"), pair("mine", 1, 3, "b")]
    turns = [
        {
            **row,
            "prompt": [{"role": "user", "content": row["prompt"]}],
            **{key: [{"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected")},
        }
        for row in plain
    ]
    pq.write_table(pa.Table.from_pylist(turns), tmp_path / "rows.parquet")
    one = RewardBench(jsonl(tmp_path, plain)).measure("rb", WORTH)
    other = RewardBench(str(tmp_path / "rows.parquet")).measure("rb", WORTH)
    assert one.results == other.results
    assert one.items == other.items


def test_a_row_without_its_subset_is_named(tmp_path: Path) -> None:
    row = pair("mine", 1, 0)
    del row["subset"]
    with pytest.raises(DataError, match=r"rows\.jsonl:1: missing_key: no 'subset'"):
        RewardBench(jsonl(tmp_path, [row])).measure("rb", WORTH)


# RewardBench 2


def best(subset: str, id: str, right: list[float], wrong: list[float]) -> dict[str, Any]:
    texts = {"chosen": [f"r {one}" for one in right], "rejected": [f"w {one}" for one in wrong]}
    return {"id": id, "prompt": f"{subset} {id}", "subset": subset, "num_correct": len(right), **texts}


def test_best_of_four_and_shared_first_places(tmp_path: Path) -> None:
    """Right; wrong; one of two first places; one of four: 1, 0, 1/2, 1/4."""
    rows = [
        best("Math", "0", [4], [1, 2, 3]),
        best("Math", "1", [1], [2, 0, 0]),
        best("Math", "2", [4], [4, 2, 3]),
        best("Math", "3", [1], [1, 1, 1]),
    ]
    found = values(RewardBench2(jsonl(tmp_path, rows)).measure("r", WORTH).results)
    assert found == pytest.approx({"r/accuracy/math": 1.75 / 4, "r/tied/math": 0.5, "r/empty": 0.0})


TIED = {
    # prompt -> scores of the reference row and of the tied row: right ones, wrong ones
    "7": (([5.0], [1.0, 2.0]), ([4.0, 4.5, 5.0], [1.0])),  # margins 3 and 3, spread 1
    "8": (([1.0], [2.0]), ([4.0, 1.0], [0.5])),  # margins -1 and 0.5, spread 3
    "9": (([3.0], [1.0]), ([2.0, 2.0], [2.0])),  # margins 2 and 0, spread 0
}


def published_ties() -> float:
    """The published means over prompts, written with arrays as they have them."""
    reference = np.array([min(right) - max(wrong) for (right, wrong), _ in TIED.values()])
    tied = np.array([min(right) - max(wrong) for _, (right, wrong) in TIED.values()])
    spread = np.array([max(right) - min(right) for _, (right, _) in TIED.values()])
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.nan_to_num(np.tanh(np.minimum(reference, tied) / spread - 1), nan=0.0)
    hard = np.mean(np.minimum(reference, tied) > spread)
    parts = 0.3 * np.mean(tied > 0) + 0.3 * np.mean(reference > 0) + 0.2 * np.mean(tied > spread) + 0.2 * hard
    return float(parts + 0.01 * np.mean(beyond))


def ties_rows() -> list[dict[str, Any]]:
    rows = []
    for prompt, (reference, tied) in TIED.items():
        rows += [best("Ties", f"ref:{prompt}", *reference), best("Ties", f"tied:{prompt}", *tied)]
    return rows


def test_the_ties_subset_has_the_published_score(tmp_path: Path) -> None:
    found = values(RewardBench2(jsonl(tmp_path, ties_rows())).measure("r", WORTH).results)
    assert found["r/accuracy/ties"] == pytest.approx(published_ties(), abs=1e-12)


def test_the_score_is_the_mean_of_six_subsets(tmp_path: Path) -> None:
    names = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    rows = [
        best(name, str(i), [float(i > place)], [0.5, 0.25, 0.0])
        for place, name in enumerate(names)
        for i in range(6)
    ]
    results = RewardBench2(jsonl(tmp_path, rows + ties_rows())).measure("r", WORTH).results
    found = values(results)
    rates = [sum(i > place for i in range(6)) / 6 for place in range(5)]
    assert [found[f"r/accuracy/{one}"] for one in ("factuality", "precise_if")] == pytest.approx(rates[:2])
    assert found["r/score"] == pytest.approx(np.mean([*rates, published_ties()]))
    score = next(one for one in results if one.metric == "r/score")
    assert score.ci_low is not None
    assert score.ci_low < score.value < (score.ci_high or math.inf)
    without = values(RewardBench2(jsonl(tmp_path, rows)).measure("r", WORTH).results)
    assert "r/score" not in without


@pytest.mark.parametrize(
    ("subsets", "score"),
    [
        ((81.3, 41.9, 69.9, 88.4, 86.5, 88.3), 76.1),
        ((81.7, 41.2, 70.5, 87.3, 85.5, 88.1), 75.7),
        ((74.7, 37.5, 69.4, 86.2, 80.6, 89.9), 73.1),
    ],
)
def test_published_scores_are_means_of_published_subsets(subsets: tuple[float, ...], score: float) -> None:
    """Three revisions of allenai/Llama-3.1-70B-Instruct-RM-RB2, as its card has them, to their last digit."""
    parts = {
        name: Result("x", value / 100, 9, 0.0, 1.0, "wilson")
        for name, value in zip(SUBSETS, subsets, strict=True)
    }
    (found,) = overall("r", parts)
    assert 100 * found.value == pytest.approx(score, abs=0.0501)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (best("Ties", "tied:1", [1, 1], [0]), "prompt 1 has its tied row alone"),
        (best("Ties", "1", [1, 1], [0]), "an id of this subset is ref:NUMBER or tied:NUMBER, not '1'"),
        ({**best("Math", "1", [1], [0]), "num_correct": 2}, "miscounted: 'num_correct' is 2"),
        ({**best("Math", "1", [1], [0]), "rejected": []}, "not_texts: 'rejected' is a list of texts"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        RewardBench2(jsonl(tmp_path, [row])).measure("r", WORTH)
