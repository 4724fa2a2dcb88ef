"""Every stage under every choice of ``deepspeed``, on two ranks and three; adapters; recomputing."""

from __future__ import annotations

from pathlib import Path

import pytest
from ranks import PARTED, STAGES, Command, assert_same_path, on_ranks, stages_of, words
from tiny_runs import align, lines

pytestmark = pytest.mark.slow

KINDS = {kind: (f"deepspeed={kind}",) for kind in ("none", "zero1", "zero2", "zero2_offload")}
KINDS["zero3_offload"] = ("deepspeed=zero3_offload", "deepspeed.whole_below=0")
RECOMPUTED = ("training.gradient_checkpointing=true",)
LORA = ("adapter=lora", *RECOMPUTED)


def _adapted(root: Path, start: Path) -> dict[str, tuple[str, ...]]:
    """DPO, a reward model, and PPO whose critic stands on the policy's frozen weights; all under LoRA."""
    given = stages_of(root, start)
    ppo = (*given["ppo"], "critic.kind=separate")
    return {
        "lora_dpo": (
            *words("dpo", root / "lora_dpo", "training.max_steps=6", "training.batch_size=9"),
            *LORA,
        ),
        "lora_reward": (*given["reward"], *LORA, f"run.dir={root / 'lora_reward'}"),
        "lora_ppo": (*ppo, *LORA, f"run.dir={root / 'lora_ppo'}"),
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one rank does."""
    root = tmp_path_factory.mktemp("alone")
    for command in (*stages_of(root, root).values(), *_adapted(root, root).values()):
        align(*command)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_under(kind: str, alone: Path, tmp_path: Path) -> None:
    on_ranks(
        [Command((*one, *KINDS[kind])) for one in stages_of(tmp_path, alone).values()], tmp_path / "start"
    )
    for stage in STAGES:
        assert_same_path(alone / stage, tmp_path / stage, len(lines(alone / stage)))


@pytest.mark.parametrize("kind", ["zero2", "zero3"])
def test_adapters_under(kind: str, alone: Path, tmp_path: Path) -> None:
    given = PARTED if kind == "zero3" else KINDS[kind]
    commands = _adapted(tmp_path, alone)
    on_ranks([Command((*one, *given)) for one in commands.values()], tmp_path / "start")
    for name in commands:
        assert_same_path(alone / name, tmp_path / name, len(lines(alone / name)))


def test_three_ranks(alone: Path, tmp_path: Path) -> None:
    """Weights and batches that three do not divide."""
    commands = stages_of(tmp_path, alone)
    on_ranks([Command((*one, *PARTED)) for one in commands.values()], tmp_path / "start", ranks=3)
    for stage in STAGES:
        assert_same_path(alone / stage, tmp_path / stage, len(lines(alone / stage)))


def test_one_rank_under_deepspeed(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher at all."""
    # which DeepSpeed is told, and which must not tell other tests' commands that they are ranks
    monkeypatch.setenv("LOCAL_RANK", "0")
    for kind in ("zero1", "zero3"):
        root = tmp_path / kind
        align(*stages_of(root, alone)["sft"], f"deepspeed={kind}")
        assert_same_path(alone / "sft", root / "sft", len(lines(alone / "sft")))
