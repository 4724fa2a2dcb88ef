"""``stage=convert``: what a run's folder holds, and that others and ``stage=show`` can read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import align, record

WORLD = ("dataset.pairs=40", "dataset.prompts=20")


def test_a_run_holds_the_file_its_manifest_and_what_was_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    align("stage=convert", "convert.format=trl_conversational", f"run.dir={run}", *WORLD)
    said = capsys.readouterr().out
    file = run / "trl_conversational.jsonl"
    assert f"40 rows: {file} (read by dataset=preference)" in said
    noted = record(run)["outputs"]["converted"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert noted == {
        "path": str(file),
        "sha256": manifest["files"][file.name]["sha256"],
        "artifact": "trl_conversational-run",
        "rows": 40,
    }
    results = {one["metric"]: one["value"] for one in json.loads((run / "results.json").read_text())}
    assert results == {"convert/rows": 40, "convert/refused": 0}


@pytest.mark.medium
def test_trl_and_datasets_take_what_was_written(tmp_path: Path) -> None:
    import datasets
    import trl

    for name, conversational in (("trl_standard", False), ("trl_conversational", True), ("unpaired", True)):
        run = tmp_path / name
        align("stage=convert", f"convert.format={name}", f"run.dir={run}", *WORLD)
        rows = datasets.load_dataset("json", data_files=str(run / f"{name}.jsonl"), split="train")
        assert trl.is_conversational(rows[0]) is conversational
        assert len(rows) == (80 if name == "unpaired" else 40)


@pytest.mark.medium
def test_what_was_written_is_shown(tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    align("stage=convert", "convert.format=trl_conversational", f"run.dir={run}", *WORLD)
    source = ("dataset=preference", f"dataset.path={run / 'trl_conversational.jsonl'}")
    model = (f"model.path={sft_run}", "model.max_length=192")
    align("stage=show", f"run.dir={tmp_path / 'show'}", *model, *source, "show.examples=1")
    row = json.loads((run / "trl_conversational.jsonl").read_text().splitlines()[0])
    said = capsys.readouterr().out
    assert f"example 1: {row['id']}" in said
    assert f"chosen (margin {row['margin']:.3g}): {row['chosen'][0]['content']}" in said
