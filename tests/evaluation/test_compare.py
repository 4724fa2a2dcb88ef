"""Two policies on three prompts, worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from align.errors import DataError, NonFiniteError
from align.evaluation.compare import Answers, compare, distinct, sample_rows
from align.report.files import read_samples, write_samples
from align.tensors import SampledReply
from align.types import Message, Prompt, Result

PROMPTS: list[Prompt] = [(Message("user", f"question {index}"),) for index in range(3)]
SFT = Answers(
    "sft",
    [SampledReply("a", (1, 2), True), SampledReply("b", (1, 2, 3), True), SampledReply("c", (4,), False)],
    [1.0, 2.0, 3.0],
)
DPO = Answers(
    "dpo",
    [SampledReply("d", (1, 2, 1, 2), True), SampledReply("e", (5, 6), True), SampledReply("f", (7,), True)],
    [2.5, 1.5, 3.0],
)


def _by_name(results: list[Result]) -> dict[str, Result]:
    return {result.metric: result for result in results}


def test_every_number() -> None:
    """Scores 1, 2, 3 against 2.5, 1.5, 3: a win, a loss, a tie. Lengths 2, 3, 1 against 4, 2, 1."""
    results = _by_name(compare(PROMPTS, DPO, SFT, reward="gold"))
    values = {name: result.value for name, result in results.items()}
    assert values == pytest.approx(
        {
            "sft/gold_reward": 2.0,
            "dpo/gold_reward": 7 / 3,
            "dpo/gold_gain": 1 / 3,
            "dpo/gold_win_rate": 0.5,
            "dpo/longer_rate": 0.5,
            "sft/length": 2.0,
            "sft/ended": 2 / 3,
            "sft/empty": 0.0,
            "sft/distinct_2": 2 / 3,  # (1,2) (1,2) (2,3): two of three
            "dpo/length": 7 / 3,
            "dpo/ended": 1.0,
            "dpo/empty": 0.0,
            "dpo/distinct_2": 3 / 4,  # (1,2) (2,1) (1,2) (5,6)
        }
    )
    assert {result.n for result in results.values()} == {3}


def test_an_empty_reply_is_counted_and_neither_a_win_nor_a_loss() -> None:
    """The first of three is blank: left are a loss and a tie, and all three scores count in the gain."""
    blank = dataclasses.replace(DPO, replies=[SampledReply(" \n", (9,), True), *DPO.replies[1:]])
    results = _by_name(compare(PROMPTS, blank, SFT, reward="gold"))
    assert (results["dpo/gold_win_rate"].value, results["dpo/gold_win_rate"].n) == (0.25, 2)
    assert results["dpo/empty"].value == pytest.approx(1 / 3)
    assert results["dpo/gold_gain"].n == 3


def test_without_two_replies_to_any_prompt_there_is_no_win_rate() -> None:
    none = dataclasses.replace(SFT, replies=[SampledReply("", (), True)] * 3)
    results = _by_name(compare(PROMPTS, DPO, none, reward="gold"))
    assert "dpo/gold_win_rate" not in results
    assert results["sft/empty"].value == 1.0


def test_the_reward_names_the_metrics() -> None:
    assert "dpo/judge_win_rate" in _by_name(compare(PROMPTS, DPO, SFT, reward="judge"))


def test_without_scores_the_rest_still_comes() -> None:
    unscored = [dataclasses.replace(one, scores=None) for one in (DPO, SFT)]
    names = set(_by_name(compare(PROMPTS, *unscored, reward="gold")))
    assert names == {
        f"{label}/{name}" for label in ("sft", "dpo") for name in ("length", "ended", "empty", "distinct_2")
    } | {"dpo/longer_rate"}


def test_prompts_that_recur_are_one_unit() -> None:
    same = [PROMPTS[0], PROMPTS[0], PROMPTS[1]]
    results = _by_name(compare(same, DPO, SFT, reward="gold"))
    assert results["dpo/gold_win_rate"].n == 2
    assert results["dpo/gold_reward"].method == "clustered bootstrap"


def test_replies_without_a_pair_of_tokens_repeat_nothing() -> None:
    assert distinct("d", [(1,), ()], size=2).value == 1.0


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(DataError, match="called 'dpo'"):
        compare(PROMPTS, DPO, DPO, reward="gold")
    with pytest.raises(DataError, match="dpo: 3 replies to 2 prompts"):
        compare(PROMPTS[:2], DPO, SFT, reward="gold")
    with pytest.raises(DataError, match="2 scores of 3 replies"):
        compare(PROMPTS, dataclasses.replace(DPO, scores=[1.0, 2.0]), SFT, reward="gold")
    with pytest.raises(DataError, match="score both or neither"):
        compare(PROMPTS, DPO, dataclasses.replace(SFT, scores=None), reward="gold")
    with pytest.raises(NonFiniteError, match="dpo scores"):
        compare(PROMPTS, dataclasses.replace(DPO, scores=[1.0, math.nan, 2.0]), SFT, reward="gold")


def test_sample_rows_stand_side_by_side_and_survive_the_disk(tmp_path: Path) -> None:
    rows = sample_rows(PROMPTS, [SFT, DPO], reward="gold")
    assert rows[0] == {
        "prompt": [{"role": "user", "content": "question 0"}],
        "replies": {
            "sft": {"text": "a", "tokens": 2, "ended": True, "scores": {"gold": 1.0}},
            "dpo": {"text": "d", "tokens": 4, "ended": True, "scores": {"gold": 2.5}},
        },
    }
    write_samples(tmp_path / "samples.jsonl", rows)
    assert read_samples(tmp_path / "samples.jsonl") == rows
