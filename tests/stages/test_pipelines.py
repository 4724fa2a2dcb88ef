"""Many runs from one command: the pipeline's steps, stopped and started again, and a sweep's jobs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from test_killed_runs import sittings
from tiny_runs import SAMPLING, SHAPE, STEPS, WORLD, align, lines, losses, record

from align.__main__ import main
from align.tracking.metrics import MetricsFile

NAMES = ("sft", "reward", "dpo", "evaluate", "ppo", "evaluate_ppo")


def pipeline(directory: Path, *more: str) -> list[str]:
    return ["stage=pipeline", f"run.dir={directory}", *SHAPE, *WORLD, *STEPS, *SAMPLING, *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that nobody broke, with an option for one of its steps."""
    directory = tmp_path_factory.mktemp("pipeline") / "whole"
    align(*pipeline(directory, "steps.dpo.loss.beta=0.3"))
    return directory


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file with what changes when it is written anew: its inode and its time."""
    stats = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def results(directory: Path) -> dict[str, dict[str, Any]]:
    return {entry["metric"]: entry for entry in json.loads((directory / "results.json").read_text())}


def assert_same(one: Path, other: Path) -> None:
    assert record(one)["state"] == "completed"
    for name in NAMES:
        assert record(one / name)["state"] == "completed"
        if not name.startswith("evaluate"):
            assert lines(one / name) == lines(other / name), name
    for file in (
        "results.json",
        "samples.jsonl",
        "dpo/model/model.safetensors",
        "ppo/model/model.safetensors",
    ):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


@pytest.mark.medium
def test_a_pipelines_results_hold_what_scripts_rely_on(whole: Path) -> None:
    found = results(whole)
    for metric in ("reward/accuracy", "reward/bayes_accuracy", "sft/gold_reward", "dpo/gold_reward"):
        assert metric in found
    for metric in ("dpo/gold_win_rate", "dpo/kl", "ppo/gold_win_rate", "ppo/score_gained"):
        assert found[metric]["ci_low"] <= found[metric]["value"] <= found[metric]["ci_high"]
    assert 0.5 < found["reward/bayes_accuracy"]["value"] <= 1
    assert found["dpo/gold_win_rate"]["n"] == 6
    together = [entry for name in NAMES for entry in json.loads((whole / name / "results.json").read_text())]
    assert [entry for number, entry in enumerate(together) if entry not in together[:number]] == list(
        found.values()
    ), "what both evaluations say of the reference stands once"
    rows = [json.loads(line) for line in (whole / "samples.jsonl").read_text().splitlines()]
    assert [list(row["replies"]) for row in rows] == [["sft", "dpo", "ppo"]] * 6
    assert (whole / "figures" / "pipeline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.medium
def test_each_step_is_a_run_of_its_own_with_its_own_options(whole: Path, tmp_path: Path) -> None:
    """The dpo step alone, as its own command, gives the same bits."""
    assert record(whole / "dpo")["config"]["loss"]["beta"] == 0.3
    assert record(whole / "dpo")["inputs"]["model"]["path"] == str(whole / "sft")
    start = (f"model.path={whole / 'sft'}", *WORLD, *STEPS, *SHAPE)
    align("stage=dpo", f"run.dir={tmp_path / 'dpo'}", *start, "loss.beta=0.3")
    assert lines(tmp_path / "dpo") == lines(whole / "dpo")


@pytest.mark.medium
def test_started_again_it_skips_what_is_whole(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: files(whole / name) for name in NAMES}
    told = (whole / "results.json").read_bytes()
    assert main(pipeline(whole, "steps.dpo.loss.beta=0.3")) == 2
    assert "is not empty: resume=true continues" in capsys.readouterr().err
    align(*pipeline(whole, "steps.dpo.loss.beta=0.3", "resume=true"))
    assert {name: files(whole / name) for name in NAMES} == before
    assert (whole / "results.json").read_bytes() == told
    assert capsys.readouterr().out.count("already whole, skipped") == len(NAMES)


@pytest.mark.medium
def test_sigterm_in_the_second_step_keeps_the_first(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MetricsFile.write

    def write_and_signal(self: MetricsFile, step: int, values: Any) -> None:
        write(self, step, values)
        if step == 3 and "reward" in self._file.name:
            os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "write", write_and_signal)
        assert main(pipeline(run, "steps.dpo.loss.beta=0.3")) == 143
    assert [record(run / name)["state"] for name in ("sft", "reward")] == ["completed", "terminated"]
    assert record(run)["state"] == "terminated"
    assert not (run / "dpo").exists()
    before = files(run / "sft")
    align(*pipeline(run, "steps.dpo.loss.beta=0.3", "resume=true"))
    assert files(run / "sft") == before
    assert_same(run, whole)


@pytest.mark.medium
@pytest.mark.realdata
def test_a_pipeline_on_human_pairs(shared_data: Path, tmp_path: Path) -> None:
    """No known truth here: the reward model is the only judge, and results say so by their names."""
    file = shared_data / "hh-rlhf" / "harmless-base.jsonl.gz"
    data = ("dataset=hh_rlhf", f"dataset.path={file}", "dataset.limit=120", "model.max_length=192")
    run = tmp_path / "run"
    align("stage=pipeline", f"run.dir={run}", *data, *SHAPE, *STEPS, *SAMPLING)
    found = results(run)
    assert {"reward/accuracy", "dpo/proxy_win_rate", "dpo/kl", "sft/length"} <= found.keys()
    assert not [metric for metric in found if "gold" in metric or "bayes" in metric]
    report = json.loads((run / "reward" / "data_report.json").read_text())
    assert report["read"] == 120
    assert report["kept"] + sum(report["refused"].values()) == 120
    assert report["kept"] > 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "part"),
    [
        ("logged", "reward/metrics.jsonl:3"),
        ("open", "reward/checkpoints/.step-000004.partial"),
        ("os.rename", "sft/.model.partial"),
    ],
    ids=["between steps", "inside a save", "as the first step ends"],
)
def test_killed_and_started_again_it_is_the_same_pipeline(
    event: str, part: str, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = pipeline(run, "steps.dpo.loss.beta=0.3")
    assert sittings((words, (event, part, 1))) == [-signal.SIGKILL]
    first_is_whole = part.startswith("reward")
    assert record(run / "sft")["state"] == ("completed" if first_is_whole else "running")
    before = files(run / "sft")
    assert sittings(([*words, "resume=true"], None)) == [0]
    assert (files(run / "sft") == before) is first_is_whole
    assert_same(run, whole)


@pytest.mark.medium
def test_a_sweep_makes_a_folder_a_run(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each job is the command with its own values; a later stage then names such a folder."""
    root = tmp_path / "sweep"
    words = ("stage=sft", f"run.dir={root}", *SHAPE, *WORLD, *STEPS, "seed=0,1")
    align("-m", *words, "training.max_steps=2", "training.schedule=constant")
    assert "2 of 2 runs completed" in capsys.readouterr().out
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["seed=0", "seed=1"]
    assert [record(root / f"seed={seed}")["seed"] for seed in (0, 1)] == [0, 1]
    first, second = losses(root / "seed=0"), losses(root / "seed=1")
    assert len(first) == len(second) == 2
    assert first != second
    assert first[0] == losses(sft_run)[0]
    align("stage=show", f"run.dir={tmp_path / 'show'}", f"model.path={root / 'seed=1'}", *WORLD)


@pytest.mark.medium
def test_a_sweep_tells_which_job_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["-m", "stage=sft", f"run.dir={tmp_path / 'sweep'}", "training.max_steps=0,-1"])
    assert code == 1
    said = capfd.readouterr()
    assert "0 of 2 runs completed" in said.out
    assert "failed training.max_steps=-1: the config has a mistake" in said.out
    assert said.out.count("training.max_steps: takes") == 2
