"""A run that is done again is the same, and what makes it another is told by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import align, record, train

from align.__main__ import main
from align.compose import run_from
from align.errors import ConfigError, DataError, NotReproduced
from align.files import write_json
from align.report.files import write_results
from align.reproduction.again import Part, parts, record_of, run_again
from align.reproduction.changes import changed_around, changed_inputs, changed_models
from align.reproduction.numbers import differing_files, numbers
from align.reproduction.told import judge
from align.run import flat, versions
from align.types import Result

CLEAN = {"commit": "c" * 40, "dirty": False}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training, in a folder of its own."""
    return train("sft", tmp_path_factory.mktemp("original") / "run")


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout without changes, whatever the tests run in."""
    monkeypatch.setattr("align.run.git_state", lambda: CLEAN)
    monkeypatch.setattr("align.reproduction.changes.git_state", lambda: CLEAN)


@pytest.mark.medium
@pytest.mark.usefixtures("_clean")
def test_a_run_is_the_same_to_the_last_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    was = train("sft", tmp_path / "was")
    capsys.readouterr()
    align("stage=reproduce", f"original={was}", f"run.dir={tmp_path / 'now'}")
    said = capsys.readouterr().out
    assert "bit for bit" in said
    assert "changed:" not in said
    assert record(tmp_path / "now")["inputs"]["original"]["path"] == str(was)
    assert (was / "model/model.safetensors").read_bytes() == (
        tmp_path / "now/again/model/model.safetensors"
    ).read_bytes()
    counts = {one["metric"]: one["value"] for one in json.loads((tmp_path / "now/results.json").read_text())}
    assert counts["reproduce/same"] == len(json.loads((was / "results.json").read_text())) > 0
    assert sum(counts.values()) == counts["reproduce/same"]


@pytest.mark.medium
@pytest.mark.usefixtures("_clean")
def test_a_number_that_nothing_explains_is_an_error(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original says another loss than its seed gives, as a run does that something else decides too."""
    was = tmp_path / "was"
    shutil.copytree(original, was)
    found = record(was)
    write_json(was / "run.json", {**found, "git": CLEAN})
    lines = (was / "metrics.jsonl").read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "loss": 3.0})
    (was / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    results = json.loads((was / "results.json").read_text())
    results[0]["value"] += 1e-12
    write_json(was / "results.json", results)
    assert main(["stage=reproduce", f"original={was}", f"run.dir={tmp_path / 'now'}"]) == 10
    said = capsys.readouterr()
    assert "differs: metrics.jsonl: step 3, loss: 3.0 -> " in said.out
    assert f"({results[0]['metric']})" in said.err
    assert "not decided by its seed" in said.err
    assert "model: other bytes" not in said.out


@pytest.mark.medium
def test_changes_can_be_refused(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    was = tmp_path / "was"
    shutil.copytree(original, was)
    found = record(was)
    write_json(was / "run.json", {**found, "versions": {**found["versions"], "torch": "1.0"}})
    words = ["stage=reproduce", f"original={was}", f"run.dir={tmp_path / 'now'}", "reproduce.changed=refuse"]
    assert main(words) == 2
    assert f"version of torch: 1.0 -> {versions()['torch']}" in capsys.readouterr().err
    assert not (tmp_path / "now" / "again").exists()


def test_what_changed_around_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.reproduction.changes.host_facts", lambda: {"processor": "B", "threads": 2})
    monkeypatch.setattr("align.reproduction.changes.versions", lambda: {"torch": "2"})
    monkeypatch.setattr("align.reproduction.changes.git_state", lambda: CLEAN)
    was = {"git": {"commit": "d" * 40, "dirty": True}, "versions": {"torch": "1", "trl": "1"}}
    assert changed_around({**was, "host": {"processor": "A"}}) == [
        "code: commit dddddddddddd -> cccccccccccc",
        "code: changes that were not committed (then)",
        "version of torch: 1 -> 2",
        "version of trl: 1 -> absent",
        "host processor: A -> B",
        "host threads: not written down -> 2",
    ]
    same = {"git": CLEAN, "versions": {"torch": "2"}, "host": {"processor": "B", "threads": 2}}
    assert changed_around(same) == []


def test_inputs_that_changed_are_named(tmp_path: Path) -> None:
    from align.files import sha256_of

    model = tmp_path / "sft" / "model"
    model.mkdir(parents=True)
    (model / "weights").write_text("as it was")
    entry = {"path": str(tmp_path / "sft"), "sha256": sha256_of(model), "run": {"stage": "sft"}}
    assert changed_models({"inputs": {"model": entry}}) == []
    (model / "weights").write_text("otherwise")
    (line,) = changed_models({"inputs": {"model": entry}})
    assert line.startswith(f"input model: sha256 of {tmp_path / 'sft'} {entry['sha256'][:12]} -> ")
    shutil.rmtree(tmp_path / "sft")
    assert changed_models({"inputs": {"model": entry}}) == [f"input model: {tmp_path / 'sft'} is gone"]
    for name, sha256 in (("was", "a" * 64), ("now", "b" * 64)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {"inputs": {"data": {"sha256": sha256}}})
    (line,) = changed_inputs([Part("", tmp_path / "was", tmp_path / "now")])
    assert line == "input data: sha256 aaaaaaaaaaaa -> bbbbbbbbbbbb"


def result(name: str, value: float, low: float | None = None, high: float | None = None) -> Result:
    return Result(name, value, 10, low, high, "bootstrap")


def directories(tmp_path: Path, was: list[Result], now: list[Result]) -> list[Part]:
    for name, results in (("was", was), ("now", now)):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name / "results.json", results)
    return [Part("", tmp_path / "was", tmp_path / "now")]


def test_numbers_are_judged_by_the_originals_intervals(tmp_path: Path) -> None:
    was = [
        result("a", 0.5, 0.4, 0.6),
        result("b", 0.5, 0.4, 0.6),
        result("c", 0.5),
        result("d", 1),
        result("e", 1),
    ]
    now = [result("a", 0.6, 0, 1), result("b", 0.61, 0, 1), result("c", 0.51), result("d", 1), result("f", 1)]
    found = directories(tmp_path, was, now)
    verdicts = {one.metric: one.verdict for one in numbers(found[0].was, found[0].now)}
    assert verdicts == {
        "a": "within", "b": "outside", "c": "no interval", "d": "same", "e": "missing", "f": "new",
    }  # fmt: skip
    with pytest.raises(NotReproduced, match=r"2 of 6 numbers lie outside .*: b, e"):
        judge(found, ["version of torch: 1 -> 2"])
    with pytest.raises(NotReproduced, match="5 of 6 numbers differ"):
        judge(found, [])


def test_after_a_change_other_numbers_within_their_intervals_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = directories(tmp_path, [result("a", 0.5, 0.4, 0.6)], [result("a", 0.55, 0.4, 0.6)])
    judge(found, ["version of torch: 1 -> 2"])
    assert "1 of 1 numbers differ, none lies outside its interval" in capsys.readouterr().out
    with pytest.raises(NotReproduced, match="nor inputs have changed"):
        judge(found, [])


def test_other_models_and_lines_are_found_but_not_what_a_clock_decides(tmp_path: Path) -> None:
    for name, time, loss, sha256 in (
        ("was", 1.0, 0.5, "a"),
        ("now", 2.0, 0.5, "a"),
        ("other", 1.0, 0.25, "b"),
    ):
        (tmp_path / name).mkdir()
        line = {"step": 1, "time": time, "loss": loss}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        write_json(tmp_path / name / "run.json", {"outputs": {"model": {"sha256": sha256}}})
    assert differing_files([Part("", tmp_path / "was", tmp_path / "now")]) == []
    assert differing_files([Part("dpo", tmp_path / "was", tmp_path / "other")]) == [
        "dpo/metrics.jsonl: step 1, loss: 0.5 -> 0.25",
        "dpo/model: other bytes",
    ]


def test_a_pipeline_is_led_into_the_new_folder_step_by_step(tmp_path: Path) -> None:
    was, now = tmp_path / "was", tmp_path / "now" / "again"
    run = run_from(
        ["stage=pipeline", f"run.dir={was}", "tracking=wandb", "seed=3", "steps.dpo.loss.beta=0.3",
         "launch.nproc=2"], []
    )  # fmt: skip
    found: dict[str, Any] = {"stage": "pipeline", "config": json.loads(json.dumps(dict(run.config)))}
    again = run_again(found, now, str(tmp_path / "cache"))
    assert again.directory == now
    assert (again.seed, again.launch.nproc) == (3, 2)
    assert [step.directory for step in again.steps] == [now / step.directory.name for step in run.steps]
    assert [type(step.stage) for step in again.steps] == [type(step.stage) for step in run.steps]
    assert again.steps[2].stage.loss.beta == 0.3  # type: ignore[attr-defined]
    for step in (again, *again.steps):
        assert step.config["tracking"] == {"name": "none"}
        assert not [one for one in flat(step.config).values() if str(was) in str(one)]
    assert [part.name for part in parts(found, was, now)] == [
        "",
        *(step.directory.name for step in run.steps),
    ]


def test_what_cannot_be_done_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run there"):
        record_of(tmp_path)
    write_json(tmp_path / "run.json", {"state": "failed"})
    with pytest.raises(DataError, match="its state is failed"):
        record_of(tmp_path)
    config = {"run": {"dir": "x", "cache": "y"}, "stage": {"name": "sft"}, "seed": 0, "models": {}}
    with pytest.raises(ConfigError, match="not those of this code"):
        run_again({"config": config}, tmp_path, "cache")
