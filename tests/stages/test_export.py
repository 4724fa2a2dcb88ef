"""What ``stage=export`` writes loads by itself, and computes what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rollout_runs import words
from safetensors.torch import load_file
from tiny_runs import align, record, train
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.__main__ import main
from align.models.export import can_quantise
from align.training import checkpoints

LAST = 6
"""The last step of every run here, which has a checkpoint."""


def exported(path: Path, directory: Path, *options: str) -> Path:
    align("stage=export", f"export.path={path}", f"run.dir={directory}", *options)
    return directory / "model"


def results(directory: Path) -> dict[str, float]:
    return {one["metric"]: one["value"] for one in json.loads((directory / "results.json").read_text())}


def logits(folder: Path, auto: Any = AutoModelForCausalLM) -> torch.Tensor:
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        found: torch.Tensor = auto.from_pretrained(folder)(ids).logits
    return found.float()


@pytest.mark.medium
def test_a_finished_run_becomes_a_folder_that_loads_by_itself(
    sft_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(sft_run, tmp_path / "run")
    assert (
        load_file(folder / "model.safetensors").keys()
        == load_file(sft_run / "model/model.safetensors").keys()
    )
    assert torch.equal(logits(folder), logits(sft_run / "model"))
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert f"AutoModelForCausalLM.from_pretrained('{folder}')" in capsys.readouterr().out
    assert results(tmp_path / "run")["export/largest_difference"] == 0
    assert record(tmp_path / "run")["inputs"]["model"]["run"]["stage"] == "sft", "its lineage goes on"


@pytest.mark.medium
def test_a_reward_model_stays_one(reward_run: Path, tmp_path: Path) -> None:
    auto = AutoModelForSequenceClassification
    of_run = logits(reward_run / "model", auto)
    assert torch.equal(logits(exported(reward_run, tmp_path / "run"), auto), of_run)
    at_step = exported(reward_run, tmp_path / "step", f"export.step={LAST}")
    assert torch.equal(logits(at_step, auto), of_run)


@pytest.mark.medium
def test_a_checkpoint_is_the_model_of_its_step(dpo_run: Path, tmp_path: Path) -> None:
    """That of the last step is the finished model; an earlier one has the very weights that it holds."""
    assert torch.equal(
        logits(exported(dpo_run, tmp_path / "last", f"export.step={LAST}")), logits(dpo_run / "model")
    )
    earlier = checkpoints.steps_in(dpo_run / "checkpoints")[0]
    assert earlier < LAST
    saved = checkpoints.read(checkpoints.folder_of(dpo_run / "checkpoints", earlier)).tensors["weights"]
    folder = exported(dpo_run, tmp_path / "earlier", f"export.step={earlier}")
    written = load_file(folder / "model.safetensors")
    assert len(written) > 10
    for name, weight in written.items():
        assert torch.equal(weight, saved[name]), name


@pytest.mark.medium
def test_adapters_are_merged_from_a_run_a_checkpoint_and_a_folder(sft_run: Path, tmp_path: Path) -> None:
    run = train("dpo", tmp_path / "lora", "adapter=lora", "adapter.rank=4", start=sft_run)
    merged = logits(run / "model")
    assert not torch.equal(merged, logits(sft_run / "model")), "the adapter has learnt something"
    assert torch.equal(logits(exported(run, tmp_path / "run")), merged)
    for name, options in {"adapter": (), "step": (f"export.step={LAST}",)}.items():
        path = run / "adapter" if name == "adapter" else run
        found = logits(exported(path, tmp_path / name, *options))
        torch.testing.assert_close(found, merged, rtol=0, atol=1e-5)
        assert not (tmp_path / name / "adapter").exists()


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["ppo", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_policy_is_exported_without_the_critic_that_was_trained_with_it(
    kind: str, sft_run: Path, tmp_path: Path
) -> None:
    align(*words(kind, tmp_path / "ppo", sft_run))
    step = checkpoints.steps_in(tmp_path / "ppo" / "checkpoints")[-1]
    found = logits(exported(tmp_path / "ppo", tmp_path / "step", f"export.step={step}"))
    torch.testing.assert_close(found, logits(tmp_path / "ppo" / "model"), rtol=0, atol=1e-5)


@pytest.mark.medium
def test_a_run_that_did_not_finish_gives_its_newest_checkpoint(
    sft_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sft_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    assert torch.equal(logits(exported(tmp_path / "run", tmp_path / "export")), logits(sft_run / "model"))
    assert f"the checkpoint of step {LAST} of" in capsys.readouterr().out


@pytest.mark.medium
def test_other_numbers_are_written_and_what_they_cost_is_said(sft_run: Path, tmp_path: Path) -> None:
    folder = exported(sft_run, tmp_path / "run", "export.dtype=bfloat16")
    assert {one.dtype for one in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    found = results(tmp_path / "run")
    whole = (sft_run / "model" / "model.safetensors").stat().st_size / 2**20
    assert found["export/megabytes"] < 0.55 * whole
    exact, rounded = (logits(one).log_softmax(-1) for one in (sft_run / "model", folder))
    assert 0 < found["export/largest_difference"] < 10 * float((exact - rounded).abs().max())


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["export.step=5"], 5, "holds no checkpoint of step 5: it has 4, 6"),
        (["export.path=FOLDER", "export.step=4"], 2, "is no run, so it has no checkpoints"),
        (["export.path=./nowhere"], 4, "there is no model at ./nowhere"),
        (["export.quantise=int4"], 2, "export.quantise: takes one of none, int8"),
        (["launch.nproc=2"], 2, "stage=export works in one process"),
    ],
)
def test_what_cannot_be_exported_is_one_message(
    options: list[str],
    code: int,
    told: str,
    sft_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [one.replace("FOLDER", str(sft_run / "model")) for one in options]
    assert main(["stage=export", f"export.path={sft_run}", f"run.dir={tmp_path / 'run'}", *given]) == code
    assert told in capsys.readouterr().err


@pytest.mark.medium
def test_weights_in_eight_bits_are_not_for_training(
    sft_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(sft_run / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "torchao", "quant_type": {"default": {}}}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["stage=export", f"export.path={folder}", f"run.dir={tmp_path / 'run'}"]) == 4
    assert "give the model that it was exported from" in capsys.readouterr().err


@pytest.mark.medium
def test_eight_bits_need_a_package_and_say_so(
    sft_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "stage=export",
        f"export.path={sft_run}",
        f"run.dir={tmp_path / 'run'}",
        "export.quantise=int8",
    ]
    if not can_quantise():
        assert main(command) == 2
        assert "pip install 'align[int8]'" in capsys.readouterr().err
        pytest.skip("torchao is not installed: what it writes is not looked at")
    assert main(command) == 0
    assert "(with torchao installed)" in capsys.readouterr().out
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert torch.int8 in {one.dtype for one in weights.values()}
    exact, rounded = (logits(one).log_softmax(-1) for one in (sft_run / "model", tmp_path / "run" / "model"))
    difference = float((exact - rounded).abs().max())
    assert 0 < difference < 1
