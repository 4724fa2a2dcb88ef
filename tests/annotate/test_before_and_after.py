"""What the stage does before people come and after they are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Place, pairs

from align.annotate.settings import AnnotateSettings
from align.annotate.types import Answer, Task
from align.compose import run_from
from align.errors import DataError
from align.pairs.candidates import unjudged, write_candidates
from align.pairs.records import write_records
from align.run import Run
from align.stages._annotate import close_study, fill, invite


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "study", port=8400)
    found.folder.mkdir()
    found.open()
    yield found
    found.desk.close()


def a_run(tmp_path: Path, *words: str) -> Run:
    run = run_from(["stage=annotate", f"run.dir={tmp_path / 'run'}", *words], [])
    run.directory.mkdir(exist_ok=True)
    return run


def filled(run: Run, place: Place, gold: str | None = None) -> dict[str, int]:
    fill(run, place.desk, run.stage.dataset, gold)  # type: ignore[attr-defined]
    return dict(place.desk.status().items)


def test_records_become_items_once(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path, pairs(4))
    run = a_run(tmp_path, "dataset=records", f"dataset.path={tmp_path}", "dataset.limit=3")
    assert filled(run, place)["ordinary"] == 3
    assert filled(run, place)["ordinary"] == 3
    assert "0 items added (3 duplicate left out)" in capsys.readouterr().out
    assert json.loads((run.directory / "data_report.json").read_text())["read"] == 3


def test_candidates_that_nobody_has_judged_become_items(place: Place, tmp_path: Path) -> None:
    write_candidates(tmp_path, map(unjudged, pairs(4)))
    run = a_run(tmp_path, "dataset=records", f"dataset.path={tmp_path}", "dataset.limit=2")
    assert filled(run, place)["ordinary"] == 2


def test_gold_items_are_read_from_a_folder_or_a_file(place: Place, tmp_path: Path) -> None:
    write_records(tmp_path, pairs(2, mark=" known"))
    run = a_run(tmp_path, "dataset=toy", "dataset.limit=2")
    assert filled(run, place, str(tmp_path)) == {"ordinary": 2, "gold": 2, "attention": 0}
    assert filled(run, place, str(tmp_path / "records.jsonl"))["gold"] == 2
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"broken\.jsonl:1"):
        filled(run, place, str(tmp_path / "broken.jsonl"))


def test_links_are_said_with_what_a_platform_needs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    invite(place.accounts, AnnotateSettings(annotators=2, recruits="prolific"), "http://127.0.0.1:8400")
    said = capsys.readouterr().out
    assert said.count("/in/") == 3
    assert "?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}" in said
    assert "http:// links" not in said
    open_to_others = AnnotateSettings(host="0.0.0.0", public_url="http://lab", annotators=0, recruits="mturk")
    invite(place.accounts, open_to_others, "http://lab")
    said = capsys.readouterr().out
    assert "?workerId=workerId&assignmentId=assignmentId&hitId=hitId" in said
    assert "over http:// links and cookies can be read" in said


def test_the_end_says_what_to_type_next(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, "dataset=toy")
    place.desk.add_items(pairs(2))
    close_study(run, place.desk)
    assert "nothing was judged" in capsys.readouterr().out
    name = place.desk.enrol("a")
    task = place.desk.serve(name)
    assert isinstance(task, Task)
    place.desk.submit(name, Answer(task.assignment, "k", "left"))
    close_study(run, place.desk)
    assert f"stage=reward dataset=records dataset.path={run.directory}" in capsys.readouterr().out
    rows = json.loads((run.directory / "results.json").read_text())
    found = {row["metric"].removeprefix("annotate/"): row["value"] for row in rows}
    assert (found["items"], found["complete_items"], found["judgements"], found["annotators"]) == (2, 1, 1, 1)
