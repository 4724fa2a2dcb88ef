"""Alarms through the command: a DPO whose chosen replies lose likelihood, warned of, stopped and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import STEPS, WORLD, lines, record

from align.__main__ import main
from align.training import checkpoints

TOUCHY = (
    "loss.beta=0.01",
    "training.max_steps=12",
    "training.schedule=constant",
    "alarms.baseline=1",
    "alarms.window=2",
    "alarms.displacement=0.01",
)
"""A fall of a nat and a hundredth in two steps is displacement."""
STOP = ("alarms=stop", "alarms.only_warn=[]")


def words(directory: Path, sft_run: Path, *more: str) -> list[str]:
    return ["stage=dpo", f"run.dir={directory}", f"model.path={sft_run}", *WORLD, *STEPS, *TOUCHY, *more]


def alarms(directory: Path) -> dict[str, tuple[float, int]]:
    """What results.json says of them: value and n."""
    found = json.loads((directory / "results.json").read_text())
    return {one["metric"]: (one["value"], one["n"]) for one in found if "/alarms" in one["metric"]}


@pytest.mark.medium
def test_a_warned_run_a_stopped_one_and_its_continuation(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warned, stopped = tmp_path / "warned", tmp_path / "stopped"
    assert main(words(warned, sft_run)) == 0
    trace = lines(warned)
    raised = [int(line["step"]) for line in trace if "alarms/chosen_displaced" in line]
    said = [line for line in capsys.readouterr().err.splitlines() if "alarm chosen_displaced" in line]
    assert raised
    assert len(said) == len(raised)
    assert f"at step {raised[0]}: log-probabilities of chosen replies fell from" in said[0]
    assert "Usual cause: " in said[0]
    assert "Try: a larger loss.beta" in said[0]
    counts = {"dpo/alarms": (len(raised), 12), "dpo/alarms/chosen_displaced": (len(raised), 12)}
    assert alarms(warned) == counts

    assert main(words(stopped, sft_run, *STOP)) == 8
    assert "align: alarm chosen_displaced (alarms=stop)" in capsys.readouterr().err
    assert record(stopped)["state"] == "failed"
    assert record(stopped)["error"].startswith("AlarmError: alarm chosen_displaced")
    assert lines(stopped) == trace[: raised[0]]
    assert checkpoints.steps_in(stopped / "checkpoints")[-1] == raised[0]
    assert not (stopped / "results.json").exists()

    assert main(words(stopped, sft_run, "resume=true")) == 0
    assert lines(stopped) == trace
    assert alarms(stopped) == counts
    model = "model/model.safetensors"
    assert (stopped / model).read_bytes() == (warned / model).read_bytes()


@pytest.mark.medium
def test_a_dpo_within_its_limits_counts_none(dpo_run: Path) -> None:
    assert alarms(dpo_run) == {"dpo/alarms": (0.0, 6)}


@pytest.mark.medium
def test_a_stage_with_nothing_to_watch_counts_nothing(sft_run: Path, reward_run: Path) -> None:
    assert alarms(sft_run) == alarms(reward_run) == {}


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_a_policy_that_learns_from_its_own_replies_is_watched(
    stage: str, tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most replies of two tokens are cut; by the second line that is an alarm, the only one, raised once."""
    small = (
        "sampling.max_new_tokens=2",
        "evaluation.prompts=4",
        "alarms.window=2",
        "alarms.ended_limit=0.9",
        "objective.minibatches=2",
    )
    start = (f"stage={stage}", f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}", "reward=gold")
    assert main([*start, *WORLD, *STEPS, *small, "training.max_steps=3"]) == 0
    assert alarms(tmp_path / "run") == {
        f"{stage}/alarms": (1.0, 3),
        f"{stage}/alarms/no_reply_ends": (1.0, 3),
    }
    assert [line.get("alarms/no_reply_ends") for line in lines(tmp_path / "run")] == [None, 1.0, None]
    assert f"[{stage}] alarm no_reply_ends at step 2: " in capsys.readouterr().err
