"""A run's directory: opened once, continued only by the same run, and true about how it ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from align.errors import ConfigError, NonFiniteError, Terminated
from align.run import Run, differences, read_record
from align.tracking.none import NoTracker


@dataclass(frozen=True)
class Work:
    """A stage that does what the test says."""

    do: Callable[[Run], None]

    def execute(self, run: Run) -> None:
        self.do(run)


def a_run(
    directory: Path,
    do: Callable[[Run], None] = lambda run: None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Run:
    return Run(
        directory=directory,
        stage=Work(do),
        stage_name="work",
        seed=3,
        resume=resume,
        tracker=NoTracker(),
        config=config or {"seed": 3},
        config_yaml="seed: 3\n",
        command=("python", "-m", "align", "stage=work"),
    )


def test_the_record_says_what_ran_and_how_it_ended(tmp_path: Path) -> None:
    a_run(tmp_path / "a").execute()
    record = read_record(tmp_path / "a")
    assert record is not None
    assert (record["state"], record["stage"], record["seed"]) == ("completed", "work", 3)
    assert record["command"] == ["python", "-m", "align", "stage=work"]
    assert record["versions"]["torch"].startswith("2.")
    assert (tmp_path / "a" / "config.yaml").read_text() == "seed: 3\n"


@pytest.mark.parametrize(
    ("error", "state"), [(NonFiniteError("loss"), "failed"), (Terminated("saved"), "terminated")]
)
def test_a_run_that_stops_says_why(tmp_path: Path, error: Exception, state: str) -> None:
    def stop(run: Run) -> None:
        raise error

    with pytest.raises(type(error)):
        a_run(tmp_path, stop).execute()
    record = read_record(tmp_path)
    assert record is not None
    assert record["state"] == state
    assert type(error).__name__ in record["error"]
    a_run(tmp_path, resume=True).execute()
    record = read_record(tmp_path)
    assert record is not None
    assert record["state"] == "completed"
    assert "error" not in record


def test_a_taken_directory_is_refused_unless_it_is_continued(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty: resume=true continues"):
        a_run(tmp_path).execute()
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file: give a folder"):
        a_run(tmp_path / "file").execute()
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        a_run(tmp_path / "file" / "inside").execute()


def test_a_run_that_failed_before_it_made_anything_does_not_block_its_directory(tmp_path: Path) -> None:
    def stop(run: Run) -> None:
        raise NonFiniteError("at once")

    with pytest.raises(NonFiniteError):
        a_run(tmp_path, stop, config={"model": {"path": "typo"}}).execute()
    a_run(tmp_path, config={"model": {"path": "right"}}).execute()
    record = read_record(tmp_path)
    assert record is not None
    assert (record["state"], record["config"]) == ("completed", {"model": {"path": "right"}})
    assert "error" not in record


def test_a_failed_run_that_made_something_keeps_its_directory(tmp_path: Path) -> None:
    def stop(run: Run) -> None:
        (run.directory / "checkpoints").mkdir()
        raise NonFiniteError("later")

    with pytest.raises(NonFiniteError):
        a_run(tmp_path, stop).execute()
    with pytest.raises(ConfigError, match="is not empty: resume=true continues"):
        a_run(tmp_path).execute()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        a_run(tmp_path, resume=True).execute()


def test_another_run_cannot_be_continued(tmp_path: Path) -> None:
    a_run(tmp_path, config={"loss": {"beta": 0.1}, "resume": False}).execute()
    with pytest.raises(ConfigError, match=r"loss\.beta: 0\.1 -> 0\.2"):
        a_run(tmp_path, config={"loss": {"beta": 0.2}, "resume": True}, resume=True).execute()
    record = read_record(tmp_path)
    assert record is not None
    assert record["state"] == "completed"


def test_whole_means_completed_with_these_settings(tmp_path: Path) -> None:
    run = a_run(tmp_path, config={"a": 1})
    assert not run.is_whole()
    run.execute()
    assert run.is_whole()
    assert not a_run(tmp_path, config={"a": 2}).is_whole()


def test_lineage_names_the_run_that_made_an_input(tmp_path: Path) -> None:
    def make(run: Run) -> None:
        (run.directory / "model").mkdir()
        (run.directory / "model" / "weights").write_bytes(b"1")

    a_run(tmp_path / "sft", make).execute()
    a_run(tmp_path / "dpo", lambda run: run.note_input("model", str(tmp_path / "sft"))).execute()
    entry = json.loads((tmp_path / "dpo" / "run.json").read_text())["inputs"]["model"]
    assert entry["run"]["stage"] == "work"
    before = entry["sha256"]
    (tmp_path / "sft" / "model" / "weights").write_bytes(b"2")
    a_run(tmp_path / "again", lambda run: run.note_input("model", str(tmp_path / "sft"))).execute()
    assert json.loads((tmp_path / "again" / "run.json").read_text())["inputs"]["model"]["sha256"] != before


def test_differences_leave_out_where_and_how_a_run_is_watched() -> None:
    old = {"run": {"dir": "a"}, "resume": False, "tracking": {"name": "none"}, "loss": {"beta": 0.1}}
    new = {"run": {"dir": "b"}, "resume": True, "tracking": {"name": "wandb"}, "loss": {"beta": 0.1, "x": 1}}
    assert differences(old, new) == ["loss.x: absent -> 1"]


def test_sigterm_outside_of_training_ends_the_run_and_says_so(tmp_path: Path) -> None:
    """While data are read, replies sampled, a model written: no step to finish, but an end to write down."""
    reached = []

    def work(run: Run) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("further")

    with pytest.raises(Terminated) as stopped:
        a_run(tmp_path / "a", work).execute()
    assert stopped.value.exit_code == 143
    assert not reached
    record = read_record(tmp_path / "a")
    assert record is not None
    assert record["state"] == "terminated"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
