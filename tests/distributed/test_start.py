"""What is typed about ranks, what SLURM says of them, and which of both cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed.launched import run_of

from align.compose import run_from
from align.config import build
from align.distributed.by_hand import is_rank, refuse_sweep
from align.distributed.settings import LaunchSettings
from align.distributed.slurm import adopt_srun, first_host, tasks_per_node
from align.distributed.start import refuse_misfits, start
from align.errors import ConfigError
from align.typed import read_resolved, write_resolved


def refusal(values: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        build(LaunchSettings, values, "launch")
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nproc": 0}, "launch.nproc: takes an integer at least 1, got 0"),
        ({"node_rank": 1}, "node_rank and rendezvous are for several nodes"),
        ({"nodes": 2, "node_rank": 2, "rendezvous": "a:1"}, "node_rank=2: nodes=2 are counted from 0"),
        ({"nodes": 2, "rendezvous": "a"}, "rendezvous=a: type HOST:PORT"),
        ({"grace": 1}, "launch.grace: takes a number at least 5"),
    ],
)
def test_what_is_typed_about_ranks_is_checked(values: dict[str, object], words: str) -> None:
    assert words in refusal(values)


def test_several_nodes_need_one_folder() -> None:
    """Each would date one of its own; a job that is handed in is dated once."""
    with pytest.raises(ConfigError, match=r"several nodes need run\.dir=DIR"):
        run_from(["stage=dpo", "launch.nodes=2"], [])
    assert run_from(["stage=dpo", "launch.nodes=2", "launch.submit=slurm"], []).launch.nodes == 2


def test_the_yaml_says_the_same_defaults() -> None:
    assert run_from(["stage=sft", "run.dir=unused"], []).launch == LaunchSettings()


def test_a_rank_types_what_its_parent_has_composed(tmp_path: Path) -> None:
    words = ["stage=dpo", "run.dir=unused", "loss=ipo", "loss.beta=0.3", "launch.nproc=2", "seed=7"]
    run = run_from(words, ["python", "-m", "align", *words])
    write_resolved(tmp_path / "run.json", run)
    assert read_resolved(tmp_path / "run.json") == run
    going_on = run.continued(resume=True)
    write_resolved(tmp_path / "run.json", going_on)
    assert read_resolved(tmp_path / "run.json").resume


def test_a_pipeline_travels_with_its_steps(tmp_path: Path) -> None:
    run = run_from(["stage=pipeline", "run.dir=unused", "launch.nproc=2"], [])
    write_resolved(tmp_path / "run.json", run)
    read = read_resolved(tmp_path / "run.json")
    assert [step.stage for step in read.steps] == [step.stage for step in run.steps]
    assert all(step.is_step and step.launch.nproc == 2 for step in read.steps)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stage=show", "launch.nproc=2"], "stage=show works in one process: leave out launch.nproc"),
        (
            ["stage=pipeline", "launch.nproc=4", "launch.nodes=2"],
            "type python -m align stage=pipeline launch.nproc=4",
        ),
    ],
)
def test_several_ranks_are_refused_where_nothing_is_shared_out(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        refuse_misfits(run_from([*words, "run.dir=unused"], []))


def test_a_pipelines_steps_that_share_nothing_out_run_in_one_process() -> None:
    run = run_from(["stage=pipeline", "run.dir=unused", "launch.nproc=2"], [])
    for step in [run, *run.steps]:
        refuse_misfits(step)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stage=dpo", "launch.nproc=2"], "a launcher has started 4 ranks already: leave out launch.nproc"),
        (["stage=show"], "stage=show works in one process: start it without a launcher"),
        (["stage=pipeline"], "type python -m align stage=pipeline launch.nproc=4"),
    ],
)
def test_what_does_not_go_with_a_launcher_of_the_users(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_from([*words, "run.dir=unused"], [])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=told):
        refuse_misfits(run)


def test_a_sweep_of_ranks_is_answered_with_the_command_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert is_rank(["stage=dpo"])
    with pytest.raises(ConfigError, match=r"python -m align -m stage=dpo seed=1,2 launch\.nproc=4"):
        refuse_sweep(["stage=dpo", "seed=1,2"])


def test_a_directory_that_is_taken_is_told_before_any_rank_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept.txt").touch()
    monkeypatch.setattr("align.distributed.launch.launch", lambda run: pytest.fail("ranks were started"))
    with pytest.raises(ConfigError, match="is not empty"):
        start(run_of(tmp_path / "run", "launch.nproc=2"))


SRUN = {
    "SLURM_JOB_ID": "41",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "gpu[003-005]",
}
"""What the fourth of five tasks on three nodes sees."""


def test_a_task_of_srun_is_a_rank() -> None:
    seen = dict(SRUN)
    adopt_srun(seen)
    assert {name: seen[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")} == {
        "RANK": "3",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
    }
    assert seen["MASTER_ADDR"] == "gpu003"
    other = {**SRUN, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    adopt_srun(other)
    assert seen["MASTER_PORT"] == other["MASTER_PORT"], "they meet without having talked"


@pytest.mark.parametrize(
    "change",
    [
        {"SLURM_STEP_NUM_TASKS": "1"},  # a task alone
        {"RANK": "0"},  # torchrun within a job
    ],
)
def test_what_is_no_rank_of_srun_is_left_alone(change: dict[str, str]) -> None:
    seen = {**SRUN, **change}
    adopt_srun(seen)
    assert "MASTER_ADDR" not in seen


def test_a_batch_script_is_no_rank() -> None:
    """``sbatch`` sets what the whole allocation has, and the number of its own one process."""
    seen = {"SLURM_JOB_ID": "41", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}
    adopt_srun(seen)
    assert "RANK" not in seen


def test_a_task_of_srun_that_is_to_start_ranks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    assert not is_rank(["stage=dpo", "launch.nproc=8", "launch.nodes=3"])


@pytest.mark.parametrize(
    ("text", "host"),
    [("node1", "node1"), ("a1,b2", "a1"), ("gpu[003-005,9],c", "gpu003"), ("n[1,2]-ib", "n1-ib")],
)
def test_the_first_of_slurms_nodes(text: str, host: str) -> None:
    assert first_host(text) == host


def test_slurms_counts_of_tasks() -> None:
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    with pytest.raises(ConfigError, match="start with torchrun"):
        tasks_per_node("two")
