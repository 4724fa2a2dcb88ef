"""Passes on tensors without bytes count what the same passes on real ones take."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from align.compose import run_from
from align.errors import ConfigError
from align.models.policy import load_policy
from align.models.recompute import recompute_activations
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.packing.probe import open_forward
from align.plan.count import needs_of, shape_of
from align.plan.live import Live
from align.plan.made import forward_of, groups_of, made, passing, without_bytes
from align.plan.settings import PlanSettings

SHAPE = ScratchSettings(hidden_size=64, layers=3, heads=4, mlp_size=160, vocab_size=512)
SCRATCH = (
    "model.scratch.hidden_size=64",
    "model.scratch.layers=3",
    "model.scratch.heads=4",
    "model.scratch.mlp_size=160",
    "model.scratch.vocab_size=512",
    "model.max_length=128",
    "training.batch_size=4",
    "training.micro_batch_size=2",
    "training.precision=float32",
)
WEIGHTS = 4 * (512 * 64 + 3 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64) + 64)
"""Bytes: tied tables; four square matrices, three of the feed-forward, two norms a block; the last norm."""
PLAN = PlanSettings()


def stage_of(*words: str) -> tuple[str, Any]:
    run = run_from([*SCRATCH, *words, "run.dir=unused"], [])
    return run.stage_name, run.stage


def test_live_bytes_are_counted_until_the_last_view_is_gone() -> None:
    with FakeTensorMode(), Live() as live:
        one = torch.empty(1000)
        view = one[10:]
        assert live.now == 4000
        other = one + 1
        del one
        assert live.now == 8000
        with live.peak_of() as peak:
            for _ in range(3):
                torch.empty(500)
        assert peak == [2000]
        del view, other
        assert live.now == 0
        assert live.peak == 10000


@pytest.mark.medium
@pytest.mark.parametrize("recomputed", [False, True])
def test_fake_passes_take_what_real_ones_take(recomputed: bool) -> None:
    groups = groups_of(2, 64, 2, 64)
    words = ["some words of a text"] * 400
    policy = load_policy(
        ModelSettings(scratch=SHAPE, max_length=128), AdapterSettings(), texts=lambda: iter(words), seed=0
    )
    forward = open_forward(policy.model, policy.pad_id)
    config = policy.model.config
    if recomputed:
        recompute_activations(policy.model)
    with Live() as live:
        for one in (*policy.model.parameters(), *policy.model.buffers()):
            one.detach()  # known from now on: not taken for new where a pass looks at it
        real = passing(live, lambda: [forward.logps(groups).logps_BT], 2, [policy.model])
    with without_bytes() as live:
        model = made(config, AdapterSettings(), 128, scores=False, device="cpu")
        if recomputed:
            recompute_activations(model)
        asked = forward_of(model, torch.float32, padded=False)
        fake = passing(live, lambda: [asked.logps(groups).logps_BT], 2, [model])
    assert fake == pytest.approx(real, rel=0.02)
    assert fake > sum(one.nbytes for one in policy.model.parameters()), "gradients are there, too"


@pytest.mark.medium
def test_weights_are_those_of_the_config() -> None:
    needs = needs_of(*stage_of("stage=dpo"), PLAN, "cpu")
    assert (needs.trained, needs.frozen, needs.reference) == (WEIGHTS, 0, WEIGHTS)
    assert not needs.reference_stays
    assert needs.passing[True] < needs.passing[False]
    lora = needs_of(*stage_of("stage=dpo", "adapter=lora", "adapter.rank=4"), PLAN, "cpu")
    inside = 3 * (4 * (64 + 64) + 3 * (64 + 160)) * 4
    assert lora.trained == 4 * inside
    assert (lora.frozen, lora.reference) == (WEIGHTS, 0)
    prompt = needs_of(*stage_of("stage=dpo", "adapter=prompt"), PLAN, "cpu")
    assert prompt.trained == 4 * 16 * 64
    prefix = needs_of(*stage_of("stage=dpo", "adapter=prefix"), PLAN, "cpu")
    assert prefix.trained == 3 * 2 * 4 * 16 * 64
    frozen = needs_of(*stage_of("stage=dpo", "training.frozen=[embeddings]"), PLAN, "cpu")
    assert frozen.frozen == 4 * 512 * 64
    sft = needs_of(*stage_of("stage=sft"), PLAN, "cpu")
    assert sft.reference == 0
    assert sft.passing[False] < needs.passing[False], "one reply a prompt, not two"


@pytest.mark.medium
def test_a_run_looks_where_it_has_a_validation_split_and_no_rollouts() -> None:
    assert needs_of(*stage_of("stage=sft"), PLAN, "cpu").looks
    assert not needs_of(*stage_of("stage=sft", "dataset.validation_fraction=0"), PLAN, "cpu").looks
    assert not needs_of(*stage_of("stage=online_dpo", "reward=gold"), PLAN, "cpu").looks


@pytest.mark.medium
def test_stages_that_sample_keep_reference_critic_and_memory() -> None:
    words = ("stage=ppo", "reward=gold", "sampling.max_new_tokens=64", "objective.minibatches=2")
    shared = needs_of(*stage_of(*words), PLAN, "cpu")
    assert (shared.reference, shared.reference_stays, shared.critic) == (WEIGHTS, True, 4 * 65)
    # 4 prompts (of 64 tokens), slots for 64 more: layers x (keys, values) x rows x slots x width
    assert shared.kv_cache == 4 * 3 * 2 * 4 * 128 * 64
    apart = needs_of(*stage_of(*words, "critic.kind=separate"), PLAN, "cpu")
    assert apart.critic == WEIGHTS + 4 * 64
    assert apart.passing[False] > 1.5 * shared.passing[False]
    lora = needs_of(*stage_of(*words, "critic.kind=separate", "adapter=lora"), PLAN, "cpu")
    assert lora.frozen == WEIGHTS, "one set of frozen weights for both"
    assert lora.reference == 0


@pytest.mark.medium
def test_a_model_of_seventy_billion_is_planned_in_no_memory(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=128256, max_position_embeddings=8192, tie_word_embeddings=False,
    ).save_pretrained(tmp_path / "config_only")  # fmt: skip
    from align.models.tokenizer import train_tokenizer

    train_tokenizer(iter(["words"] * 50), 300).save_pretrained(tmp_path / "config_only")
    run = run_from(
        ["stage=dpo", "model=hf", f"model.path={tmp_path / 'config_only'}", "training.micro_batch_size=1",
         "run.dir=unused"], [],
    )  # fmt: skip
    needs = needs_of("dpo", run.stage, PLAN, "cpu")
    # https://huggingface.co/meta-llama/Llama-3.1-70B has 70.6 B parameters of this shape
    assert needs.trained == pytest.approx(4 * 70.55e9, rel=0.001)
    gc.collect()


def test_lengths_follow_the_settings() -> None:
    name, stage = stage_of("stage=dpo")
    shape = shape_of(name, stage, PlanSettings(prompt_share=0.25))
    assert (shape.items, shape.passes, shape.prompt, shape.replies, shape.reply) == (2, 2, 32, 2, 96)
    name, stage = stage_of("stage=grpo", "reward=gold", "sampling.max_new_tokens=32", "rollout.replies=4",
                           "objective.minibatches=2", "training.micro_batch_size=1")  # fmt: skip
    shape = shape_of(name, stage, PLAN)
    assert (shape.items, shape.passes, shape.prompt, shape.replies, shape.reply) == (1, 2, 96, 4, 32)
    assert shape.written == 16


def test_ranks_share_a_batch_as_the_training_does() -> None:
    """``training.batch_size`` is of all ranks together."""
    name, stage = stage_of("stage=dpo", "training.batch_size=9", "training.micro_batch_size=null")
    assert [(one.items, one.passes) for one in (shape_of(name, stage, PLAN, n) for n in (1, 2, 4))] == [
        (9, 1),
        (5, 1),
        (3, 1),
    ]
    name, stage = stage_of("stage=dpo", "training.batch_size=12", "training.micro_batch_size=2")
    assert [shape_of(name, stage, PLAN, ranks).passes for ranks in (1, 2, 4)] == [6, 3, 2]
    grpo = ("stage=grpo", "reward=gold", "sampling.max_new_tokens=32", "rollout.replies=4")
    name, stage = stage_of(*grpo, "objective.minibatches=2")
    assert shape_of(name, stage, PLAN, 4).written == 4


def test_what_trains_nothing_is_refused() -> None:
    run = run_from(["stage=runs", "run.dir=unused"], [])
    with pytest.raises(ConfigError, match="of=runs: stage=plan is for stages that train"):
        shape_of("runs", run.stage, PLAN)
