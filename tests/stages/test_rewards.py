"""Rewards made of others in whole commands: where their scores lie, what went in, and the same again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import evaluate, record

from align.pairs.store import TokenStore
from experiments.collect.serving import Said, completion, serving
from reward_models.bradley_terry import BradleyTerry

pytestmark = pytest.mark.medium


def values(directory: Path) -> dict[str, float]:
    lines = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    return {line["metric"]: line["value"] for line in lines}


def test_a_reward_run_says_where_its_scores_of_unseen_pairs_lie(reward_run: Path):
    """Recomputed from the texts of the validation and the test split."""
    ready = BradleyTerry(str(reward_run), device="cpu").prepare()
    scores: list[float] = []
    for split in ("validation", "test"):
        items: TokenStore[Any, Any] = TokenStore(reward_run / "data" / f"{split}.arrow")
        assert len(items)
        pairs = [items.text(i) for i in range(len(items))]
        for replies in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs]):
            scores += ready.score([pair.prompt for pair in pairs], replies)
    assert ready.seen is not None
    assert ready.seen.count == len(scores)
    seen = [ready.seen.mean, ready.seen.std, *(ready.score_range or ())]
    expected = [np.mean(scores), np.std(scores), *np.quantile(scores, (0.001, 0.999))]
    assert seen == pytest.approx(expected, abs=1e-4)
    assert (reward_run / "model" / "scores.json").is_file()


def test_an_ensemble_of_a_run_and_its_sister_is_between_them(
    tmp_path: Path, sft_run: Path, dpo_run: Path, reward_run: Path
):
    """Two members that score alike, centred alike: the ensemble's margins are theirs, and it names both."""
    sister = tmp_path / "seed=1"
    (sister / "model").mkdir(parents=True)
    for file in (reward_run / "model").iterdir():
        (sister / "model" / file.name).write_bytes(file.read_bytes())
    words = ("reward=ensemble", f"reward.paths=[{reward_run},{sister}]")
    both = evaluate(tmp_path / "both", dpo_run, sft_run, *words)
    one = evaluate(tmp_path / "one", dpo_run, sft_run, "reward=bradley_terry", f"reward.path={reward_run}")
    alike = {name: value for name, value in values(one).items() if "win_rate" in name or "kl" in name}
    assert alike
    assert {name: values(both)[name] for name in alike} == pytest.approx(alike)
    inputs = record(both)["inputs"]
    assert [inputs[f"reward.{i}"]["path"] for i in (0, 1)] == [str(reward_run), str(sister)]
    assert (
        inputs["reward.0"]["sha256"]
        == inputs["reward.1"]["sha256"]
        == record(one)["inputs"]["reward"]["sha256"]
    )


def test_a_sum_with_a_judge_asks_nothing_twice(
    tmp_path: Path, sft_run: Path, dpo_run: Path, reward_run: Path
):
    def answer(body: Mapping[str, Any], _: int) -> Said:
        found = re.search(r"\[Reply\]\n(.*)\n\n\[End\]", body["messages"][0]["content"], re.DOTALL)
        assert found
        return completion(f"Score: {1 + len(found[1]) % 10}")

    with serving(answer) as stand_in:
        words = (
            "reward=weighted",
            f"reward.parts.helpful.path={reward_run}",
            "reward.parts.helpful.name=bradley_terry",
            "reward.parts.rules.length.most=8",
            "reward.parts.judge.weight=0.5",
            f"reward.parts.judge.server.url={stand_in.url}",
            "reward.parts.judge.server.model=m",
            f"run.cache={tmp_path / 'cache'}",
        )
        first = evaluate(tmp_path / "first", dpo_run, sft_run, *words)
        asked = len(stand_in.asked)
        assert asked > 0
        second = evaluate(tmp_path / "second", dpo_run, sft_run, *words)
        assert len(stand_in.asked) == asked
    assert (second / "results.json").read_bytes() == (first / "results.json").read_bytes()
    assert record(first)["inputs"]["reward.helpful"]["path"] == str(reward_run)
    assert len(list((tmp_path / "cache" / "judge").iterdir())) == 1
