"""``stage=ppo adapter=lora`` as a command: policy, reference, critic and reward on one set of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_runs import STEPS, WORLD, align, lines, stopped, train

from align.models.one_base import Apart
from align.stages import _rollouts
from align.tracking.metrics import MetricsFile
from align.training import checkpoints
from reward_models.bradley_terry import BradleyTerry

pytestmark = pytest.mark.medium

LORA = ("adapter=lora", "adapter.rank=4")
ON_BASE = (
    "the critic is an adapter and a head on the policy's frozen weights",
    "is an adapter on the policy's frozen weights",
)


@pytest.fixture(scope="module")
def lora_reward(tmp_path_factory: pytest.TempPathFactory, sft_run: Path) -> Path:
    return train("reward", tmp_path_factory.mktemp("lora") / "reward", *LORA, start=sft_run)


def words(directory: Path, sft_run: Path, reward: Path, *more: str) -> list[str]:
    """Four roles; two minibatches an iteration."""
    return [
        "stage=ppo", f"run.dir={directory}", f"model.path={sft_run}", *WORLD, *STEPS, *LORA,
        "reward=bradley_terry", f"reward.path={reward}", "critic.kind=separate", "critic.value_coef=1",
        "objective.epochs=2", "objective.minibatches=2", "sampling.max_new_tokens=12",
        "evaluation.prompts=6", "evaluation.shown=1", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def ppo_run(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, lora_reward: Path) -> Path:
    directory = tmp_path_factory.mktemp("ppo") / "ppo"
    align(*words(directory, sft_run, lora_reward))
    return directory


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_holds_both_adapters_and_the_head_and_no_base(ppo_run: Path) -> None:
    last = checkpoints.newest(ppo_run / "checkpoints")
    assert last is not None
    names = [name for name in last.tensors["weights"] if "inv_freq" not in name]
    roles = {role: [name for name in names if name.startswith(role)] for role in ("policy.", "critic.")}
    assert len(names) == sum(map(len, roles.values()))
    heads = [name for name in names if "lora_" not in name]
    assert len(heads) == 1
    assert "critic." in heads[0]
    assert "score" in heads[0]
    assert len(roles["critic."]) == len(roles["policy."]) + 1


def test_the_model_that_is_left_is_the_policy_alone(ppo_run: Path, sft_run: Path) -> None:
    start, left = (load_file(run / "model" / "model.safetensors") for run in (sft_run, ppo_run))
    assert left.keys() == start.keys()
    assert any(float((left[name] - start[name]).abs().max()) > 1e-4 for name in start)
    adapter = load_file(ppo_run / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name and "critic" not in name for name in adapter)


def test_whole_networks_trace_the_same_path(
    ppo_run: Path, tmp_path: Path, sft_run: Path, lora_reward: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The critic is drawn alike; the reward's adapter is merged, which rounds."""

    def apart(*_: Any) -> None:
        raise Apart("a test says so")

    with monkeypatch.context() as patch:
        patch.setattr(_rollouts, "_critic_on_base", apart)
        patch.setattr(BradleyTerry, "prepare_on", lambda self, policy, cache: self.prepare(cache))
        align(*words(tmp_path / "whole", sft_run, lora_reward))
    assert "the critic is a whole network beside the policy's weights, because a test says so" in said(capsys)
    for ours, theirs in zip(lines(ppo_run), lines(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_a_resumed_run_traces_an_unbroken_one(
    ppo_run: Path, tmp_path: Path, sft_run: Path, lora_reward: Path
) -> None:
    """Stopped when step 3 is written down."""
    broken = tmp_path / "broken"
    stopped(*words(broken, sft_run, lora_reward), owner=MetricsFile, name="write", call=3, after=True)
    align(*words(broken, sft_run, lora_reward, "resume=true"))
    assert lines(broken) == lines(ppo_run)
    for file in (
        "model/model.safetensors",
        "adapter/adapter_model.safetensors",
        "results.json",
        "samples.jsonl",
    ):
        assert (broken / file).read_bytes() == (ppo_run / file).read_bytes(), file
    ended, unbroken = (checkpoints.newest(run / "checkpoints") for run in (broken, ppo_run))
    assert ended is not None
    assert unbroken is not None
    assert all(
        (one == unbroken.tensors["weights"][name]).all() for name, one in ended.tensors["weights"].items()
    )


def test_activations_may_be_recomputed(
    ppo_run: Path, tmp_path: Path, sft_run: Path, lora_reward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(*words(tmp_path / "run", sft_run, lora_reward, "training.gradient_checkpointing=true"))
    told = said(capsys)
    assert all(line in told for line in ON_BASE)
    for ours, theirs in zip(lines(tmp_path / "run"), lines(ppo_run), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


ONE_STEP = "training.max_steps=1"


def test_a_critic_starts_from_the_reward_models_adapter(
    ppo_run: Path, tmp_path: Path, sft_run: Path, lora_reward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same first replies get other values than a new head gives."""
    align(*words(tmp_path / "run", sft_run, lora_reward, f"critic.path={lora_reward}", ONE_STEP))
    told = said(capsys)
    assert all(line in told for line in ON_BASE)
    (first,), new = lines(tmp_path / "run"), lines(ppo_run)[0]
    assert first["rollout/score"] == new["rollout/score"]
    assert abs(first["value/mean"] - new["value/mean"]) > 1e-3


def test_a_critic_on_another_base_is_whole_and_says_so(
    tmp_path: Path, sft_run: Path, reward_run: Path, lora_reward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(*words(tmp_path / "run", sft_run, lora_reward, f"critic.path={reward_run}", ONE_STEP))
    told = said(capsys)
    assert "note: the critic is a whole network beside the policy's weights, because it is no adapter" in told
    assert ON_BASE[1] in told
