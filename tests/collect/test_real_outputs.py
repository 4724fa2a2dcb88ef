"""Strength on the replies of four models to AlpacaEval's instructions: what matches, and how lengths go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import align

pytestmark = pytest.mark.realdata

MODELS = ("gpt4", "gpt-3.5-turbo-0301", "text_davinci_003", "text_davinci_001")


def collected(shared_data: Path, run: Path, *more: str) -> dict[str, float]:
    files = [str(shared_data / "alpaca_eval" / name / "model_outputs.json") for name in MODELS]
    data = ("dataset=alpaca_eval_outputs", f"dataset.path={files[0]}", "collection.limit=null")
    all_of_it = ("dataset.test_fraction=0", "dataset.validation_fraction=0")
    sources = f"collect.sources=[{','.join(files)}]"
    align("stage=collect", "collect=strength", f"run.dir={run}", *data, *all_of_it, sources, *more)
    return {one["metric"]: one["value"] for one in json.loads((run / "results.json").read_text())}


def replies(shared_data: Path, name: str) -> dict[str, str]:
    rows = json.loads((shared_data / "alpaca_eval" / name / "model_outputs.json").read_text())
    return {row["instruction"]: row["output"] for row in rows}


@pytest.mark.medium
def test_what_matches_and_how_often_the_stronger_is_longer(shared_data: Path, tmp_path: Path) -> None:
    """Counted by hand from the files: 805 instructions, of which text_davinci_001 lacks two."""
    told = collected(shared_data, tmp_path / "run")
    assert [told[f"strength/{rank}/unmatched"] for rank in (1, 2, 3, 4)] == [0, 0, 0, 2]
    assert told["collect/abstained/no_reply"] == 2
    kept = told["collect/pairs"] + sum(told[name] for name in told if name.startswith("collect/abstained/"))
    assert kept == 3 * 805, "each instruction has three outcomes, each a pair or counted"
    first, second = (replies(shared_data, name) for name in MODELS[:2])
    two = [(said, second[asked]) for asked, said in first.items() if said != second[asked]]
    both = [(len(one), len(other)) for one, other in two if one.strip() and other.strip()]
    longer = sum((one > other) + (one == other) / 2 for one, other in both) / len(both)
    assert told["strength/1_2/longer_rate"] == pytest.approx(longer)
    assert told["strength/1_2/pairs"] == len(both)


@pytest.mark.medium
def test_lengths_can_be_controlled(shared_data: Path, tmp_path: Path) -> None:
    plain = collected(shared_data, tmp_path / "plain")
    matched = collected(shared_data, tmp_path / "matched", "length.how=match")
    assert plain["lengths/longer_wins"] > 0.7
    assert matched["lengths/longer_wins"] == pytest.approx(0.5, abs=0.01)
    assert matched["collect/pairs"] + matched["collect/abstained/length_match"] == plain["collect/pairs"]
