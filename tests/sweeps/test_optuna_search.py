"""A search: it finds what is good, ends what is not, and goes on after a kill as if there had been none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from acting import act, until

from align.__main__ import main
from align.config import build
from align.errors import ConfigError
from align.stages.runs import Runs
from align.sweeps.optuna import Optuna

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
SEARCH = ("sweep=optuna", "sweep.metric=act/score", "seed=range(0,30)")


@pytest.fixture(autouse=True)
def _acting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, "execute", act)
    monkeypatch.setattr("align.sweeps.warm.warm", lambda: True)


def sweep(root: Path, *words: str) -> int:
    return main(["-m", "stage=runs", f"run.dir={root}", *SEARCH, *words])


def trials(root: Path) -> list[Any]:
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{root / 'optuna.db'}")
    return list(study.get_trials())


def told(root: Path) -> list[tuple[Any, ...]]:
    """What a search drew and was told, in order."""
    return [(one.number, one.params, one.state.name, one.values) for one in trials(root)]


@pytest.mark.medium
def test_it_tells_the_study_what_results_say_and_prints_the_best(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "s"
    assert sweep(root, "runs=ok", "sweep.trials=8", "sweep.startup=3") == 0
    found = trials(root)
    assert [one.state.name for one in found] == ["COMPLETE"] * 8
    assert [one.values for one in found] == [[-7.0 * abs(one.params["seed"] - 7)] for one in found]
    best = max(found, key=lambda one: one.value)
    line = f"trial-{best.number:03d}  act/score {best.value:.4g}  seed={best.params['seed']}"
    said = capfd.readouterr().out
    assert f"best by act/score (maximize):\n  {line}" in said
    assert "trials over all sittings: 8 complete" in said


@pytest.mark.medium
def test_the_same_seed_draws_the_same_and_another_does_not(tmp_path: Path) -> None:
    few = ("runs=ok", "sweep.trials=5", "sweep.startup=2")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert sweep(tmp_path / name, *few, f"sweep.seed={seed}") == 0
    assert told(tmp_path / "a") == told(tmp_path / "b")
    assert told(tmp_path / "a") != told(tmp_path / "c")


@pytest.mark.medium
def test_two_metrics_give_a_front(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Up to 7 a larger seed scores more and costs more; beyond, it is worse in both."""
    root = tmp_path / "s"
    both = ("sweep.metric=[act/score,act/cost]", "sweep.direction=[maximize,minimize]")
    assert sweep(root, "runs=ok", *both, "sweep.trials=6") == 0
    front = capfd.readouterr().out.partition(
        "Pareto front of act/score and act/cost (maximize, minimize):\n"
    )[2]
    shown = {line.split()[0] for line in front.splitlines() if line.startswith("  trial-")}
    seeds = {f"trial-{one.number:03d}": one.params["seed"] for one in trials(root)}
    kept = {
        name for name, mine in seeds.items()
        if not any(
            abs(other - 7) <= abs(mine - 7) and other <= mine and other != mine for other in seeds.values()
        )
    }  # fmt: skip
    assert shown == kept


@pytest.mark.medium
@pytest.mark.parametrize("word", ["look", "slow"])
def test_what_is_worse_than_the_median_is_pruned(
    word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two fair trials first; a third one's validation decides, whether or not it could be stopped in time."""
    root = tmp_path / "s"
    words = [f"runs={word}", "sweep.startup=2", "sweep.trials=3", "sweep.sampler=random"]
    good = optuna.create_study(
        storage=f"sqlite:///{_folder(root) / 'optuna.db'}", study_name="sweep", directions=["maximize"]
    )
    for seed in (6, 8, 20):
        good.enqueue_trial({"seed": seed})
    assert sweep(root, *words) == 0
    assert [one.state.name for one in trials(root)] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert "pruned after" in capfd.readouterr().out
    assert list(trials(root)[2].intermediate_values) == [1], "nothing is reported past the stop"


def _folder(root: Path) -> Path:
    root.mkdir()
    return root


@pytest.mark.medium
def test_failures_are_no_values(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sweep(tmp_path / "a", "runs=raise", "sweep.trials=2") == 1
    assert [one.state.name for one in trials(tmp_path / "a")] == ["FAIL"] * 2
    assert trials(tmp_path / "a")[0].user_attrs["reason"] == "the well is dry\nsecond line"
    assert "no trial is complete" in capfd.readouterr().out
    assert sweep(tmp_path / "b", "runs=ok", "sweep.trials=1", "sweep.metric=act/scor") == 1
    assert "results.json has no act/scor. Did you mean 'act/score'?" in capfd.readouterr().out


@pytest.mark.medium
def test_a_killed_search_goes_on_as_an_unbroken_one(tmp_path: Path) -> None:
    """Killed at its third trial, which waits; started again with that job's wait taken away."""
    words = ["runs=slow", "sweep.trials=6", "sweep.startup=3", "sweep.pruning=none"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    environment = {**os.environ, "PYTHONPATH": str(REPO), "ACT_AT_ONCE": "1"}
    command = [sys.executable, str(HERE / "acting.py"), "-m", "stage=runs", *SEARCH, *words]
    subprocess.run([*command, f"run.dir={whole}"], env=environment, cwd=REPO, check=True, capture_output=True)
    environment["ACT_AT_ONCE"] = "0"
    process = subprocess.Popen([*command, f"run.dir={broken}"], env=environment, cwd=REPO)
    until(
        lambda: (
            any((broken / f"trial-{n:03d}" / "metrics.jsonl").exists() for n in range(6)) and _waits(broken)
        )
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = told(broken)
    assert before[-1][2] == "RUNNING"
    environment["ACT_AT_ONCE"] = "1"
    again = [*command, f"run.dir={broken}"]
    end = time.monotonic() + 60
    while (done := subprocess.run(again, env=environment, cwd=REPO, capture_output=True)).returncode == 2:
        assert time.monotonic() < end, done.stderr  # the killed sweep's child still holds the folder
        time.sleep(0.1)
    assert done.stdout.count(b"already whole, skipped") == len(before) - 1
    assert b"6 of 6 runs completed" in done.stdout
    assert told(broken) == told(whole)
    assert told(broken)[: len(before) - 1] == before[:-1]


def _waits(root: Path) -> bool:
    """Whether some job has reported what keeps it waiting."""
    for path in root.glob("trial-*/metrics.jsonl"):
        if json.loads(path.read_text().splitlines()[0])["validation"] < -8:
            return True
    return False


@pytest.mark.medium
def test_another_search_in_the_same_folder_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path / "s", "runs=ok", "sweep.trials=1") == 0
    assert sweep(tmp_path / "s", "runs=ok", "sweep.trials=1", "seed=range(0,9)") == 2
    assert "holds a search with another axes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"metric": "a", "direction": "up"}, "takes maximize or minimize, got 'up'"),
        ({"metric": ["a", "b"]}, "must have one for each metric"),
        ({}, "metric: is missing"),
    ],
)
def test_mistakes_in_its_settings(values: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        build(Optuna, values)


def test_nothing_to_search_is_a_mistake(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "stage=runs", "sweep=optuna", "sweep.metric=a", f"run.dir={tmp_path / 's'}"]
    assert main(words) == 2
    assert "nothing to search" in capfd.readouterr().err
