"""Whole commands of the methods that need no model: what lies on disk, and what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import align

from align.pairs.candidates import read_candidates
from align.pairs.records import read_records

WORLD = ("dataset.pairs=300", "dataset.prompts=300", "collection.limit=null", "collection.chunk=50")


def run(directory: Path, method: str, *words: str) -> dict[str, float]:
    """The results of one command, by name."""
    align("stage=collect", f"collect={method}", f"run.dir={directory}", *WORLD, *words)
    return {one["metric"]: one["value"] for one in json.loads((directory / "results.json").read_text())}


def told(directory: Path) -> Any:
    return json.loads((directory / "run.json").read_text())


def test_noise(tmp_path: Path):
    found = run(tmp_path / "n", "noise", "collect.rate=0.3")
    flips = [bool(record.details["flipped"]) for record in read_records(tmp_path / "n")]
    assert found["noise/rate"] == pytest.approx(sum(flips) / len(flips))
    expected = found["noise/accuracy_before"] * 0.7 + (1 - found["noise/accuracy_before"]) * 0.3
    assert found["labels/expected_accuracy"] == pytest.approx(expected)
    assert abs(found["labels/accuracy"] - expected) < 4 * (0.21 / len(flips)) ** 0.5
    assert {"lengths/longer_wins", "probe/accuracy", "probe/gold_accuracy"} <= found.keys()


def test_damage_that_words_betray_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Replies that say a sentence again are told by their words; the truth's labels are the same here.

    Without the excess there is nothing to warn of: repeating is what the gold dislikes, too.
    """
    only = [f"collect.{kind}=0" for kind in ("shuffled_words", "shuffled_sentences", "off_topic", "negated")]
    found = run(tmp_path / "r", "corrupt", *only, "collect.truncated=0")
    assert found["probe/accuracy"] > 0.9
    telling = told(tmp_path / "r")["probe"]["telling"]
    assert all(one["rejected"] > one["chosen"] for one in telling if one["word"] in (".", "the"))
    assert told(tmp_path / "r")["probe"]["warning"] is None
    assert "warning: word counts" not in capsys.readouterr().out
    # negated replies are told by "not", and the gold does not see it
    only = [f"collect.{kind}=0" for kind in ("shuffled_words", "shuffled_sentences", "off_topic", "repeated")]
    run(tmp_path / "n", "corrupt", *only, "collect.truncated=0", "probe.excess=0")
    assert "warning: word counts" in capsys.readouterr().out
    assert "'cannot'" in told(tmp_path / "n")["probe"]["warning"]


@pytest.mark.parametrize("how", ["match", "cap"])
def test_length_control_counts_what_it_leaves_out(tmp_path: Path, how: str):
    found = run(tmp_path / how, "noise", "collect.rate=0", f"length.how={how}")
    kept = list(read_records(tmp_path / how))
    left_out = found[f"collect/abstained/length_{how}"]
    assert left_out > 0
    assert len(kept) + left_out == told(tmp_path / how)["collect"]["given"]
    if how == "match":
        assert found["lengths/longer_wins"] == pytest.approx(0.5)
    else:
        pairs = [record.pair() for record in kept]
        sizes = [sorted((len(pair.chosen), len(pair.rejected))) for pair in pairs if pair is not None]
        assert all(long <= 1.2 * short + 1e-9 for short, long in sizes)


def test_active_writes_candidates_that_nobody_has_judged(tmp_path: Path):
    found = run(tmp_path / "a", "active", "collect.by=margin", "collect.choose=30", "reward=gold")
    candidates = list(read_candidates(tmp_path / "a" / "candidates"))
    assert len(candidates) == found["collect/pairs"] == 30
    margins = [abs(one.details["margin"]) for one in candidates]
    assert margins == sorted(margins)
    # the gold is never wrong about itself, but for pairs that it holds to be alike
    assert found["active/gold_gap"] == pytest.approx(sum(margins) / 30)
    assert found["active/gold_gap"] < found["active/pool_gold_gap"]
    assert found["collect/abstained/not_chosen"] == told(tmp_path / "a")["collect"]["given"] - 30
    assert not (tmp_path / "a" / "records.jsonl").exists()
    output = told(tmp_path / "a")["outputs"]["candidates"]
    assert output["pairs"] == 30
    before = (tmp_path / "a" / "candidates" / "candidates.jsonl").read_bytes()
    run(tmp_path / "a", "active", "collect.by=margin", "collect.choose=30", "reward=gold", "resume=true")
    assert (tmp_path / "a" / "candidates" / "candidates.jsonl").read_bytes() == before
