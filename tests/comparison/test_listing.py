"""The list of runs: every state, ages in words, and what cannot be read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made_sweep import evaluated, made_run, scores, trained
from tiny_runs import align

from align.comparison.listing import listed, span
from align.errors import DataError


def _folder(tmp_path: Path) -> Path:
    model = trained(tmp_path / "runs" / "dpo", 0.1, 3)
    evaluated(tmp_path / "runs" / "evaluate", model, scores(1.0, 1))
    made_run(tmp_path / "runs" / "stopped", {"stage": {"name": "sft"}, "seed": 5}, state="terminated")
    made_run(tmp_path / "runs" / "stopped" / "step", {"stage": {"name": "sft"}, "seed": 5}, state="failed")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    return tmp_path / "runs"


def test_each_run_by_its_record(tmp_path: Path) -> None:
    found = {one.directory.name: one for one in listed(_folder(tmp_path), metrics=2, steps=False)}
    assert set(found) == {"dpo", "evaluate", "stopped", "broken"}
    assert (found["dpo"].stage, found["dpo"].state, found["dpo"].seed) == ("dpo", "completed", 3)
    assert found["stopped"].state == "terminated"
    assert found["broken"].state == "damaged"
    assert [one.metric for one in found["evaluate"].metrics] == ["dpo/gold_gain", "dpo/kl"]
    assert found["dpo"].started == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_steps_and_the_asking_run(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    found = listed(folder, metrics=0, steps=True, but=(folder / "dpo").resolve())
    names = {one.directory.name for one in found}
    assert "step" in names
    assert "dpo" not in names
    assert all(one.metrics == () for one in found)


def test_the_newest_stands_last(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    record = json.loads((folder / "dpo" / "run.json").read_text()) | {"started": "2026-05-01T00:00:00+0200"}
    (folder / "dpo" / "run.json").write_text(json.dumps(record))
    assert listed(folder, metrics=0, steps=False)[-1].directory.name == "dpo"


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=45), "45 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(hours=3.9), "3 h"),
        (timedelta(days=2), "2 d"),
        (timedelta(seconds=-4), "0 s"),
    ],
)
def test_times_in_their_largest_unit(time: timedelta, words: str) -> None:
    assert span(time.total_seconds()) == words


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run directory there"):
        listed(tmp_path, metrics=1, steps=False)
    with pytest.raises(DataError, match="no such folder"):
        listed(tmp_path / "nowhere", metrics=1, steps=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path)
    align("stage=runs", f"runs={folder}", f"run.dir={folder}/list")
    told = capsys.readouterr().out
    for words in ("damaged", "terminated", "4 runs: 1 damaged, 2 completed, 1 terminated"):
        assert words in told
    rows = {
        Path(row["directory"]).name: row for row in json.loads((folder / "list" / "runs.json").read_text())
    }
    assert set(rows) == {"dpo", "evaluate", "stopped", "broken"}
    assert rows["evaluate"]["metrics"] == {"dpo/gold_gain": pytest.approx(1.0), "dpo/kl": 4.0}
