"""``pairs.jsonl`` of ``stage=reward`` holds the very numbers that its results rest on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from align.errors import DataError
from align.evaluation.accuracy import accuracy, bayes_accuracy
from align.evaluation.pair_scores import PairScore, read_pair_scores, write_pair_scores
from align.report.files import read_results

PAIR = PairScore("a", "0" * 16, 1.5, -0.5, 2.0, 3, 4, None, 0.75)


def test_it_survives_the_disk(tmp_path: Path) -> None:
    write_pair_scores(tmp_path, [PAIR])
    assert read_pair_scores(tmp_path / "pairs.jsonl") == [PAIR]


def test_another_files_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(asdict(PAIR)) + '\n{"id": "b"}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: a scored pair has id, prompt, .*; got id"):
        read_pair_scores(path)


@pytest.mark.medium
def test_the_results_come_out_of_it(reward_run: Path) -> None:
    pairs = read_pair_scores(reward_run / "pairs.jsonl")
    results = {one.metric: one for one in read_results(reward_run / "results.json")}
    prompts = [one.prompt for one in pairs]
    assert all(one.margin == one.chosen_score - one.rejected_score for one in pairs)
    again = accuracy([one.chosen_score for one in pairs], [one.rejected_score for one in pairs], prompts)
    truth = bayes_accuracy([one.probability for one in pairs], prompts)
    assert {one.metric: one for one in [*again, truth]}.items() <= results.items()
    assert len({one.id for one in pairs}) == len(pairs) > 1
    assert all(one.chosen_tokens > 1 and one.rejected_tokens > 1 for one in pairs)
