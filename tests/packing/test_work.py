"""Counted work against torch's own count of the operations that a pass carries out."""

from __future__ import annotations

import pytest
from groups import made_up
from peft import LoraConfig, get_peft_model
from tiny_architectures import ARCHITECTURES, random_causal
from torch.utils.flop_counter import FlopCounterMode

from align.models.build import quiet, seeded
from align.packing.probe import open_forward

SHAPES = ((20, (30, 25)), (20, (35, 40)), (30, (20, 30)))
GROUPS = made_up(*SHAPES)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "qwen3"])
def test_a_pass_is_counted_as_torch_counts_it(architecture: str):
    """All but attention, where masked halves may or may not be computed, agree exactly."""
    model = random_causal(architecture)
    forward = open_forward(model, 0)
    with FlopCounterMode(display=False) as counter:
        forward.logps(GROUPS).sums_B().sum().backward()
    by_kind = counter.get_flop_counts()["Global"]
    matrices = sum(count for kind, count in by_kind.items() if str(kind) in ("aten.mm", "aten.addmm"))
    pairs = sum(p * (p + 1) // 2 + sum(r * p + r * (r + 1) // 2 for r in rs) for p, rs in SHAPES)
    layers, width = 2, 32
    attention = 12 * layers * width * pairs
    assert forward.work(GROUPS).flops == pytest.approx(matrices + attention, rel=1e-9)


def test_frozen_matrices_have_no_gradient_of_their_own():
    """A LoRA step: forward and the way back through everything, weights' gradients for the adapter only."""
    base = random_causal("llama")
    with seeded(0), quiet():
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"]))
    full = open_forward(random_causal("llama"), 0).work(GROUPS).flops
    adapted = open_forward(model, 0).work(GROUPS).flops
    assert 0.6 * full < adapted < 0.8 * full


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_counted(architecture: str):
    """Prompts of 11 and 3, replies of 9 and 13, 1 and 7: 44 distinct; 58 with prompts twice; rows of 24."""
    groups, model = made_up((11, (9, 13)), (3, (1, 7))), random_causal(architecture)
    padded = open_forward(model, 0, attention="padded").work(groups)
    packed = open_forward(model, 0).work(groups)
    assert (packed.distinct, packed.total, packed.computed, packed.slots) == (44, 58, 44, 44)
    assert (padded.distinct, padded.total, padded.computed, padded.slots) == (44, 58, 58, 4 * 24)
    assert packed.flops == padded.flops


def test_windows_bound_what_attention_costs():
    """Mistral's window of 8 against none: fewer pairs, nothing else."""
    near, far = random_causal("mistral"), random_causal("mistral")
    far.config.sliding_window = None
    for layer in far.model.layers:
        layer.self_attn.config.sliding_window = None
    less, more = (open_forward(one, 0).work(GROUPS).flops for one in (near, far))

    def pairs(window: float) -> int:
        return sum(
            sum(min(at + 1, window) for at in range(p))
            + sum(min(p + at + 1, window) for r in rs for at in range(r))
            for p, rs in SHAPES
        )

    assert more - less == 12 * 2 * 32 * (pairs(float("inf")) - pairs(8))
