"""``stage=folds``: each pair is scored once, by the model that had not seen its prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SHAPE, STEPS, WORLD, align, record

from align.__main__ import main
from align.errors import DataError
from align.evaluation.pair_scores import PAIRS, PairScore, write_pair_scores
from align.report.files import read_results
from align.stages._folds import pooled

WORDS = (*SHAPE, *WORLD, *STEPS, "training.max_steps=2")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("folds") / "run"
    align("stage=folds", "folds=3", f"run.dir={run}", *WORDS)
    return run


@pytest.mark.medium
def test_every_prompt_is_tested_once_and_by_a_model_that_never_saw_it(folded: Path) -> None:
    whole = rows(folded / "out_of_fold.jsonl")
    assert len({row["id"] for row in whole}) == len(whole)
    report = json.loads((folded / "fold_0" / "data_report.json").read_text("utf-8"))
    assert len(whole) == report["kept"]
    of_prompt: dict[str, set[str]] = {}
    for row in whole:
        of_prompt.setdefault(row["prompt"], set()).add(row["fold"])
    assert {len(folds) for folds in of_prompt.values()} == {1}
    assert {row["fold"] for row in whole} == {"fold_0", "fold_1", "fold_2"}


@pytest.mark.medium
def test_the_pooled_accuracy_is_that_of_all_pairs(folded: Path) -> None:
    whole = rows(folded / "out_of_fold.jsonl")
    right = [(row["margin"] > 0) + 0.5 * (row["margin"] == 0) for row in whole]
    results = {one.metric: one for one in read_results(folded / "results.json")}
    pooled_one = results["folds/accuracy"]
    assert pooled_one.value == pytest.approx(sum(right) / len(right))
    assert pooled_one.n == len({row["prompt"] for row in whole})
    assert pooled_one.ci_low is not None
    sizes = [sum(row["fold"] == f"fold_{fold}" for row in whole) for fold in range(3)]
    parts = [results[f"fold_{fold}/accuracy"].value for fold in range(3)]
    by_hand = sum(value * size for value, size in zip(parts, sizes, strict=True)) / len(whole)
    assert by_hand == pytest.approx(pooled_one.value)


@pytest.mark.medium
def test_a_fold_is_the_run_that_its_own_command_makes(folded: Path, tmp_path: Path) -> None:
    align("stage=reward", f"run.dir={tmp_path / 'alone'}", *WORDS, "dataset.folds=3", "dataset.fold=1")
    for file in ("model/model.safetensors", PAIRS):
        assert (tmp_path / "alone" / file).read_bytes() == (folded / "fold_1" / file).read_bytes(), file


@pytest.mark.medium
def test_what_is_whole_is_not_trained_again(folded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folded / "out_of_fold.jsonl").read_bytes()
    (folded / "results.json").unlink()
    align("stage=folds", "folds=3", f"run.dir={folded}", *WORDS, "resume=true")
    assert capsys.readouterr().out.count("already whole, skipped") == 3
    assert (folded / "out_of_fold.jsonl").read_bytes() == before
    assert record(folded)["state"] == "completed"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stage=folds", "folds=1"), "folds takes an integer from 2 on"),
        (("stage=reward", "dataset.folds=3", "dataset.fold=3"), "folds are counted from 0"),
        (("stage=reward", "dataset.fold=1"), "folds are counted from 0"),
        (("stage=folds", "loss=dpo"), "loss: no step uses this"),
    ],
)
def test_what_cannot_be_is_refused(
    words: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"run.dir={tmp_path / 'run'}"]) == 2
    assert expected in capsys.readouterr().err


def test_folds_of_two_splits_are_not_pooled(tmp_path: Path) -> None:
    row = PairScore("a", "f" * 16, 1.0, 0.0, 1.0, 3, 4, None, None)
    for fold in ("one", "two"):
        (tmp_path / fold).mkdir()
        write_pair_scores(tmp_path / fold, [row])
    with pytest.raises(DataError, match="pair a was tested in two folds"):
        pooled(tmp_path / "all.jsonl", {name: tmp_path / name for name in ("one", "two")}, "folds")
