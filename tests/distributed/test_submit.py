"""Runs that are handed in as jobs: through submitit's local executor, which needs no cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from distributed.launched import run_of

from align.compose import run_from
from align.distributed.start import start
from align.distributed.submit import Submitted, Work, _parameters, submit
from align.distributed.watch import is_alive
from align.errors import ConfigError
from align.overrides import in_our_words
from align.typed import plain_values

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _jobs_find_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))


def handed_in(folder: Path, *words: str) -> Submitted:
    return submit(run_of(folder / "run", "launch.submit=local", *words))


def wait_for_step(folder: Path, step: int) -> None:
    until = time.monotonic() + 120
    while str(step) not in (
        (folder / "steps.txt").read_text().split() if (folder / "steps.txt").exists() else []
    ):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.medium
def test_a_job_starts_its_ranks_and_tells_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = handed_in(tmp_path / "b", "work.what=refuse", "launch.nproc=2")
    job = handed_in(tmp_path, "launch.nproc=2")
    assert job.wait() == 0, job.log.read_text()
    assert {one.name for one in tmp_path.glob("rank-*.txt")} == {"rank-0.txt", "rank-1.txt"}
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "completed"
    assert job.log.is_relative_to(tmp_path / "run.job")
    assert fails.wait() == 6
    assert "rank 1 of 2: the loss is NaN at this step" in fails.log.read_text()


@pytest.mark.slow
def test_a_job_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    job = handed_in(tmp_path, "launch.nproc=2", "work.steps=100000")
    wait_for_step(tmp_path, 2)
    job.cancel()
    pids = [int(file.read_text().split()[0]) for file in tmp_path.glob("rank-*.txt")]
    assert len(pids) == 2
    until = time.monotonic() + 60
    while any(map(is_alive, pids)):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert job.wait() != 0


@pytest.mark.slow
def test_a_job_whose_time_is_over_is_saved_and_goes_on(tmp_path: Path) -> None:
    """SIGUSR2 is what SLURM sends before the end; the local executor starts the job again as SLURM does."""
    job = handed_in(tmp_path, "launch.nproc=2", "work.steps=200")
    wait_for_step(tmp_path, 2)
    task = next(
        int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if is_task_of(file, job)
    )
    os.kill(task, signal.SIGUSR2)
    assert job.wait() == 0, job.log.read_text()
    log = job.log.read_text()
    assert "SIGTERM: step" in log, "the first sitting saved"
    resolved = json.loads(next((tmp_path / "run.job").rglob("run-0.json")).read_text())
    assert resolved["values"]["resume"] is True, "the second one continued"


def is_task_of(file: Path, job: Submitted) -> bool:
    """Whether a process is the one that submitit calls a job's work in."""
    try:
        text = file.read_bytes().decode(errors="replace")
    except OSError:
        return False
    return "submitit.core._submit" in text and str(job.directory) in text


def test_a_job_asks_for_what_was_typed() -> None:
    words = ["stage=dpo", "run.dir=runs/mine", "launch.nproc=8", "launch.nodes=2", "launch.submit=slurm"]
    words += [
        "launch.cluster.gpus_per_node=8",
        "launch.cluster.partition=gpu",
        "launch.cluster.timeout_min=240",
    ]
    settings = run_from(words, []).launch
    assert _parameters(settings, "mine") == {
        "name": "mine",
        "timeout_min": 240,
        "nodes": 2,
        "tasks_per_node": 1,
        "gpus_per_node": 8,
        "stderr_to_stdout": True,
        "slurm_partition": "gpu",
    }


def test_slurm_is_asked_for_all_that_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ``sbatch`` keeps what it is given, and says what SLURM says."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text("#!/bin/sh\n")
    (commands / "sbatch").write_text(f"#!/bin/sh\ncp $1 {tmp_path}/asked\necho Submitted batch job 41\n")
    for file in commands.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    cluster = {"gpus_per_node": 8, "cpus_per_task": 2, "mem_gb": 3, "partition": "a", "qos": "b"}
    cluster |= {"account": "c", "constraint": "d", "exclude": "e", "setup": ["module load cuda"]}
    words = [f"launch.cluster={json.dumps(cluster)}", "launch.nodes=2", "launch.submit=slurm"]
    job = submit(run_of(tmp_path / "run", *words))
    assert job.name == "41"
    asked = (tmp_path / "asked").read_text()
    for text in ("nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "cpus-per-task=2", "mem=3GB", "time=60"):
        assert f"#SBATCH --{text}\n" in asked
    for text in ("partition=a", "qos=b", "account=c", "constraint=d", "exclude=e", "job-name=run"):
        assert f"#SBATCH --{text}\n" in asked
    assert "module load cuda" in asked


def test_no_slurm_here_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"launch\.submit=slurm: the job was not taken"):
        start(run_of(tmp_path / "run", "launch.submit=slurm"))


def test_on_several_nodes_each_task_knows_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_from(["stage=dpo", "run.dir=unused", "launch.nodes=2", "launch.submit=slurm"], [])
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[4-5]", "SLURM_NODEID": "1"}.items():
        monkeypatch.setenv(name, value)
    work = Work(plain_values(run), ".", 60, is_local=False, devices=None)
    launch: dict[str, Any] = work._here(2, 1)["values"]["launch"]
    assert (launch["nodes"], launch["node_rank"], launch["submit"]) == (2, 1, None)
    assert launch["rendezvous"].startswith("n4:")


def test_a_job_whose_time_is_over_comes_back_as_a_continuation() -> None:
    run = run_from(["stage=pipeline", "run.dir=unused", "launch.submit=slurm"], [])
    delayed = Work(plain_values(run), ".", 60, is_local=False, devices=None).checkpoint()
    assert delayed.function.plain["values"]["resume"] is True


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["hydra/launcher=submitit_slurm"], ["launch.submit=slurm"]),
        (["+hydra/launcher=submitit_local"], ["launch.submit=local"]),
        (["hydra.launcher.partition=gpu"], ["launch.cluster.partition=gpu"]),
        (["hydra.launcher.nodes=2", "seed=1,2"], ["launch.nodes=2", "seed=1,2"]),
    ],
)
def test_the_words_of_hydras_plugin_are_understood(words: list[str], ours: list[str]) -> None:
    assert in_our_words(words) == ours


def test_other_launchers_of_hydra_are_answered_with_ours() -> None:
    with pytest.raises(ConfigError, match=r"launch\.submit=slurm"):
        in_our_words(["hydra/launcher=joblib"])


CLOSED = """
import logging, os
from align.distributed.submit import _logging_kept

closed = []
class Handler(logging.Handler):
    def close(self):
        closed.append(self)

handler = Handler()
with _logging_kept():
    import submitit
assert not closed
assert "SUBMITIT_LOG_LEVEL" not in os.environ
"""


def test_what_logs_already_goes_on(tmp_path: Path) -> None:
    """Some handlers close the stream that they write to."""
    subprocess.run([sys.executable, "-c", CLOSED], check=True, cwd=ROOT, env={**os.environ})
