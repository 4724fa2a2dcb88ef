"""A sweep's jobs: what fails ends nothing else, what is whole is skipped, what is stopped goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from acting import act, marks, until

from align.__main__ import main
from align.run import read_record
from align.stages.runs import Runs

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]


@pytest.fixture(autouse=True)
def _acting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, "execute", act)
    monkeypatch.setattr("align.sweeps.warm.warm", lambda: True)


def sweep(root: Path, *words: str) -> int:
    return main(["-m", "stage=runs", f"run.dir={root}", *words])


def states(root: Path) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in json.loads((root / "sweep.json").read_text())}


def seen(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return found


@pytest.mark.medium
def test_what_fails_ends_nothing_else_and_is_listed_with_its_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path / "s", "runs=raise,bug,die,ok", "listing.metrics=1,-1") == 1
    said = capfd.readouterr().out
    assert "1 of 8 runs completed" in said
    listed = said.partition("1 of 8 runs completed")[2]
    for word, reason in (
        ("raise", "the well is dry"),
        ("bug", "KeyError: 'nothing like that'"),
        ("die", "ended by SIGKILL, as when memory runs out"),
    ):
        assert f"failed runs={word}_listing.metrics=1: {reason}" in listed
    assert listed.count("listing.metrics: takes an integer at least") == 4
    assert states(tmp_path / "s")["runs=ok_listing.metrics=1"] == "completed"
    assert list(states(tmp_path / "s").values()).count("failed") == 7


@pytest.mark.medium
def test_started_again_it_skips_what_is_whole_and_goes_on_with_the_rest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "s"
    assert sweep(root, "runs=raise,ok", "seed=1,2") == 1
    before = (root / "runs=ok_seed=1" / "run.json").read_bytes()
    capfd.readouterr()
    assert sweep(root, "runs=raise,ok", "seed=1,2,3") == 1
    assert capfd.readouterr().out.count("already whole, skipped") == 2
    assert (root / "runs=ok_seed=1" / "run.json").read_bytes() == before
    assert [len(marks(root / name)) for name in ("runs=raise_seed=1", "runs=ok_seed=1")] == [2, 1]
    assert states(root) == {
        "runs=raise_seed=1": "failed", "runs=raise_seed=2": "failed", "runs=raise_seed=3": "failed",
        "runs=ok_seed=1": "skipped", "runs=ok_seed=2": "skipped", "runs=ok_seed=3": "completed",
    }  # fmt: skip


@pytest.mark.medium
def test_other_settings_in_a_finished_folder_are_an_error_of_that_job(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path / "s", "runs=ok", "seed=1,2", "listing.metrics=1") == 0
    assert sweep(tmp_path / "s", "runs=ok", "seed=1,2", "listing.metrics=2") == 1
    assert "listing.metrics: 1 -> 2" in capfd.readouterr().out


def test_the_last_word_is_the_comparison_to_type(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "a b"
    assert main(["-m", "stage=runs", f"run.dir='{root}'", "runs=ok", "seed=1,2"]) == 0
    said = capfd.readouterr().out
    assert said.strip().endswith(f"stage=compare runs='{root}' run.dir='{root}_comparison'")
    assert "act/cost 1.000" in " ".join(said.split())


@pytest.mark.medium
def test_jobs_at_a_time_have_shares_and_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    root = tmp_path / "s"
    assert sweep(root, "runs=ok", "seed=1,2,3,4", "launch.parallel=2") == 0
    found = [seen(root / f"seed={seed}")["environment"] for seed in (1, 2, 3, 4)]
    assert {one["OMP_NUM_THREADS"] for one in found} == {"3"}
    assert {one["CUDA_VISIBLE_DEVICES"] for one in found} == {"3", "5"}
    assert "said by" not in capfd.readouterr().out
    assert (root / "logs" / "seed=3.txt").read_text() == "said by seed=3\n"


@pytest.mark.medium
def test_ctrl_c_lets_jobs_save_and_the_sweep_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "s"
    assert sweep(root, "runs=wait,interrupt,ok", "launch.parallel=2") == 130
    assert states(root) == {"runs=wait": "terminated", "runs=interrupt": "terminated"}
    assert "the same command with this run.dir goes on" in capfd.readouterr().out
    for name in states(root):
        assert (read_record(root / name) or {})["state"] == "terminated"
        assert all(not alive(pid) for pid in marks(root / name))


@pytest.mark.medium
def test_the_group_is_the_sweeps(tmp_path: Path) -> None:
    root = tmp_path / "betas"
    wandb = ("tracking=wandb", "tracking.mode=none")
    assert sweep(root, "runs=ok", "seed=1,2", *wandb) == 0
    assert seen(root / "seed=1")["group"] == "betas"
    assert sweep(tmp_path / "other", "runs=ok", "seed=1,2", *wandb, "tracking.group=mine") == 0
    assert seen(tmp_path / "other" / "seed=2")["group"] == "mine"


@pytest.mark.medium
def test_where_nothing_may_be_forked_jobs_are_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a library has opened a CUDA device; the list has their errors all the same."""
    listed, gone = tmp_path / "listed", tmp_path / "gone"
    assert sweep(listed, "runs=ok", "seed=1,2") == 0
    monkeypatch.setattr("align.sweeps.warm.warm", lambda: False)
    assert sweep(tmp_path / "s", f"runs={listed},{gone}", "launch.parallel=2") == 1
    said = capfd.readouterr().out
    assert "1 of 2 runs completed" in said
    assert f"DataError: runs={gone}: no such folder" in said
    (log,) = (tmp_path / "s" / "logs").glob("*listed.txt")
    assert "2 runs: 2 completed" in log.read_text()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["runs=ok,ok"], "2 jobs would share"),
        (["runs=interval(0,1)"], "sweep=optuna searches it"),
        (["runs=ok", "launch.parallel=0"], "launch.parallel: takes an integer at least 1"),
        (["runs=ok", "sweep=gridd"], "Did you mean 'grid'?"),
        (["runs=ok", "sweep.metric=a"], "sweep.metric: there is no such option"),
        (["stage=glob(zzz)"], "no stage matches"),
        (["seed=glob(*)"], "glob goes over the files of a group"),
        (["seed=range(3,1)"], "there is no value in it"),
    ],
)
def test_mistakes_in_the_sweeps_own_words(
    words: list[str], answer: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path / "s", *words) == 2
    assert answer in capfd.readouterr().err
    assert not (tmp_path / "s").exists()


def test_words_of_sweeps_are_refused_without_m(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["stage=runs", "launch.parallel=2"]) == 2
    assert main(["stage=runs", "sweep=optuna"]) == 2
    said = capfd.readouterr().err
    assert "python -m align -m launch.parallel=2 ..." in said
    assert "python -m align -m sweep=optuna ..." in said


@pytest.mark.medium
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_killed_sweep_leaves_no_process_and_goes_on(parallel: int, tmp_path: Path) -> None:
    root = tmp_path / "s"
    words = ["-m", "stage=runs", f"run.dir={root}", "runs=ok,wait,raise", f"launch.parallel={parallel}"]
    command = [sys.executable, str(HERE / "acting.py"), *words]
    process = subprocess.Popen(command, cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)})
    waiting = root / "runs=wait" / "marks.txt"
    until(waiting.exists)
    again = subprocess.run(
        command, cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True
    )
    assert again.returncode == 2
    assert b"another sweep runs there" in again.stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not any(alive(pid) for pid in marks(root / "runs=wait")))
    assert (read_record(root / "runs=wait") or {})["state"] == "terminated"


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be asked for its code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
