"""What cannot be used is refused in one message with its exit code; what is not finite stops a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import SAMPLING, SHAPE, STEPS, WORLD, lines, record

from align.__main__ import main
from align.training import checkpoints

pytestmark = pytest.mark.medium


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and message of a command that is stopped; an exception that gets out fails the test."""
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (message,) = [line for line in said.splitlines() if line.startswith("align: ")]
    return code, said[said.index(message) :].strip()


# Missing things


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "show"])
def test_a_missing_model_is_one_line(stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = () if stage == "show" else STEPS
    code, said = refusal(
        capsys,
        f"stage={stage}",
        f"run.dir={tmp_path / 'run'}",
        "model.path=./runs/nothing",
        *WORLD,
        *training,
    )
    assert (code, said) == (4, "align: there is no model at ./runs/nothing.")


def test_evaluate_names_the_model_that_is_missing(
    tmp_path: Path, sft_run: Path, reward_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("stage=evaluate", *WORLD, *SAMPLING)
    missing = ("reference.path=./no/reference", "reward.path=./no/reward")
    given = (f"reference.path={sft_run}", f"reward.path={reward_run}")
    for number, paths in enumerate([(missing[0], given[1]), (given[0], missing[1])]):
        place = f"run.dir={tmp_path / str(number)}"
        code, said = refusal(capsys, *common, place, f"model.path={sft_run}", "reward=bradley_terry", *paths)
        assert code == 4
        assert said == f"align: there is no model at {missing[number].partition('=')[2]}."


def test_a_policy_is_no_reward_model_nor_the_other_way_round(
    tmp_path: Path, sft_run: Path, reward_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = refusal(
        capsys, "stage=dpo", f"run.dir={tmp_path / 'a'}", f"model.path={reward_run}", *WORLD, *STEPS
    )
    assert code == 4
    assert "is a reward model, not a policy" in said
    paths = (f"model.path={sft_run}", f"reference.path={sft_run}", f"reward.path={sft_run}")
    place = f"run.dir={tmp_path / 'b'}"
    code, said = refusal(capsys, "stage=evaluate", place, "reward=bradley_terry", *paths, *WORLD, *SAMPLING)
    assert code == 4
    assert "has no head that gives scores" in said


@pytest.mark.parametrize("dataset", ["preference", "hh_rlhf", "ultrafeedback", "records", "demonstrations"])
def test_a_missing_file_is_one_line(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = "sft" if dataset == "demonstrations" else "reward"
    path = tmp_path / "pairs.jsonl"
    place = f"run.dir={tmp_path / 'run'}"
    code, said = refusal(
        capsys, f"stage={stage}", place, *SHAPE, f"dataset={dataset}", f"dataset.path={path}", *STEPS
    )
    assert code == 3
    assert str(path) in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_pairs_are_needed_for_preferences(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"run.dir={tmp_path / 'run'}"
    code, said = refusal(capsys, f"stage={stage}", place, "dataset=demonstrations", "dataset.path=any.jsonl")
    assert code == 2
    assert "dataset=demonstrations offers demonstrations, and this stage needs preference pairs" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_test_split_is_not_needed(stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pairs for training is a choice: said, and not refused once the training is done."""
    run = tmp_path / "run"
    assert main([f"stage={stage}", f"run.dir={run}", *SHAPE, *WORLD, *STEPS, "dataset.test_fraction=0"]) == 0
    assert "the test split is empty" in capsys.readouterr().out
    # nothing but how many alarms were raised, where any could be
    measured = {entry["metric"] for entry in json.loads((run / "results.json").read_text())}
    assert measured <= {f"{stage}/alarms"}
    assert (run / "model" / "model.safetensors").exists()


# Bad rows

GOOD = [
    {"prompt": f"How do I mend bell number {i}?", "chosen": f"With care, {i} times.", "rejected": "No."}
    for i in range(40)
]
BAD = {
    5: ('{"prompt": "cut', "malformed_json"),
    12: (json.dumps({**GOOD[0], "rejected": GOOD[0]["chosen"]}), "same_replies"),
    13: (json.dumps({**GOOD[1], "chosen": "  "}), "empty_reply"),
    27: (json.dumps({"prompt": "What?", "chosen": "Yes."}), "missing_key"),
    30: (json.dumps({**GOOD[2], "chosen": 7}), "not_text"),
}
"""Line number -> what stands there, and the reason that it is refused for."""


@pytest.fixture
def with_bad_rows(tmp_path: Path) -> Path:
    """Forty good rows and five bad ones among them."""
    rows = [json.dumps(row) for row in GOOD]
    for number, (text, _) in sorted(BAD.items()):
        rows.insert(number - 1, text)
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_bad_rows_are_dropped_and_named(
    stage: str, with_bad_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = (f"stage={stage}", f"run.dir={tmp_path / 'run'}")
    data = ("dataset=preference", f"dataset.path={with_bad_rows}", "dataset.bad_rows=drop")
    assert main([*place, *SHAPE, *STEPS, *data]) == 0
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert (report["read"], report["kept"]) == (45, 40)
    refused = {row["line"]: row["reason"] for row in report["rows"] if row["action"] == "refused"}
    assert refused == {number: reason for number, (_, reason) in BAD.items()}
    assert {row["path"] for row in report["rows"]} == {str(with_bad_rows)}
    said = capsys.readouterr().out
    assert "left out 5" in said
    assert f"{with_bad_rows}:12" in said
    assert str(tmp_path / "run" / "data_report.json") in said


def test_bad_rows_stop_a_run_that_says_error(
    with_bad_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("stage=dpo", f"run.dir={tmp_path / 'run'}")
    data = ("dataset=preference", f"dataset.path={with_bad_rows}", "dataset.bad_rows=error")
    code, said = refusal(capsys, *place, *SHAPE, *STEPS, *data)
    assert code == 3
    for number, (_, reason) in BAD.items():
        assert f"{with_bad_rows}:{number}: {reason}" in said
    assert "dataset.bad_rows=drop" in said
    assert record(tmp_path / "run")["state"] == "failed"
    assert not (tmp_path / "run" / "checkpoints").exists()


# Numbers that are not finite


def poisoned(run: Path, to: Path, name: str) -> Path:
    """The model of a run with one NaN in one of its weights."""
    shutil.copytree(run / "model", to)
    weights = load_file(to / "model.safetensors")
    weights[name].view(-1)[3] = torch.nan
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("sft", "loss is nan at step 1; batch: "),
        ("reward", "loss is nan at step 1; batch: "),
        ("dpo", "the reference gives nan to a token of pair "),  # asked before the first step
    ],
)
def test_a_nan_in_the_model_stops_the_run_and_is_named(
    stage: str, words: str, tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    model = poisoned(sft_run, tmp_path / "model", name)
    place = (f"stage={stage}", f"run.dir={tmp_path / 'run'}", f"model.path={model}")
    code, said = refusal(capsys, *place, *WORLD, *STEPS)
    assert code == 6
    assert words in said
    assert name in said
    run = tmp_path / "run"
    assert not checkpoints.steps_in(run / "checkpoints")
    assert not (run / "model").exists()
    assert record(run)["state"] == "failed"
    assert not (run / "metrics.jsonl").exists() or lines(run) == []


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_run_that_explodes_keeps_its_finite_checkpoints_only(
    stage: str, tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate of 1e30 throws every weight up to 1e30 in one step: finite, but not what comes of them."""
    place = (f"stage={stage}", f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}")
    rate = ("training.learning_rate=1e30", "training.warmup_steps=0", "training.save_every=1")
    code, said = refusal(capsys, *place, *WORLD, *STEPS, *rate)
    assert code == 6
    assert " at step 2; batch: " in said
    run = tmp_path / "run"
    assert checkpoints.steps_in(run / "checkpoints") == [1]
    kept = checkpoints.newest(run / "checkpoints")
    assert kept is not None
    for tensors in kept.tensors.values():
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert [line["step"] for line in lines(run)] == [1]
    assert not (run / "model").exists()


@pytest.mark.parametrize("role", ["model", "reference", "reward"])
def test_evaluation_stops_at_a_nan_whoever_it_comes_from(
    role: str, tmp_path: Path, sft_run: Path, reward_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"model": sft_run, "reference": sft_run, "reward": reward_run}
    paths[role] = poisoned(paths[role], tmp_path / "model", "model.norm.weight")
    named = [f"{one}.path={path}" for one, path in paths.items()]
    place = f"run.dir={tmp_path / 'run'}"
    code, said = refusal(capsys, "stage=evaluate", place, "reward=bradley_terry", *named, *WORLD, *SAMPLING)
    assert code == 6
    if role == "reward":
        assert "reward=bradley_terry gave nan to reply 0 of 6" in said
    else:
        assert "the logits of the policy are not finite at position " in said
        assert said.endswith(f"; the policy is {paths[role]}")
    assert not (tmp_path / "run" / "results.json").exists()
