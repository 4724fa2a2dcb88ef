"""Before the first update nothing has moved: what a ratio, a KL and a clip fraction must then be, exactly.

One dropout, one temperature or one layout out of place breaks it (Huang et al. 2024), and is tried here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from made_rollouts import ALL, GROUPS, actor_on, causal, clipped, rolled_out
from tiny_architectures import ARCHITECTURES

from align.ppo.update import mean_of


def metrics_of(objective: Any, items: Any = ALL) -> dict[str, float]:
    step = objective(items)
    return {name: float(value) / float(count) for name, (value, count) in step.metrics.items()}


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_ratio_is_one_to_the_last_bit(architecture: str, lora: bool) -> None:
    actor = actor_on(causal(architecture, lora=lora))
    found = metrics_of(clipped(actor, rolled_out(actor)))
    assert found["policy/ratio"] == 1.0
    assert found["policy/approx_kl"] == 0.0
    assert found["policy/clip_fraction"] == 0.0
    assert found["rollout/logps_gap"] == 0.0
    assert found["value/clip_fraction"] == 0.0


def test_another_layout_is_off_by_rounding_only() -> None:
    model = causal("llama")
    found = metrics_of(clipped(actor_on(model), rolled_out(actor_on(model, padded=True))))
    assert 0 < found["rollout/logps_gap"] < 1e-5


def test_a_temperature_out_of_place_shows() -> None:
    actor = actor_on(causal("llama"), temperature=0.8)
    sampled_at_one = rolled_out(replace(actor, temperature=1.0))
    found = metrics_of(clipped(actor, sampled_at_one))
    assert found["rollout/logps_gap"] > 0.01
    assert abs(found["policy/ratio"] - 1) > 1e-3


def test_dropout_left_on_shows() -> None:
    model = causal("gpt2")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    actor = actor_on(model)
    rollout = rolled_out(actor)
    model.train()
    found = metrics_of(clipped(actor, rollout))
    assert found["rollout/logps_gap"] > 0.01
    assert found["policy/approx_kl"] > 1e-4


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_packed_and_plain_updates_have_one_gradient(architecture: str) -> None:
    """The whole objective, with every term on, from padded rows and from one packed row."""
    found = []
    for padded in (False, True):
        model = causal(architecture)
        actor = actor_on(model, padded=padded)
        rollout = rolled_out(actor)
        # as after some updates: old log-probabilities on both sides of the clip range
        moved = rollout.old.logps_BT + 0.3 * torch.sin(torch.arange(rollout.mask_NT.shape[1]))
        rollout = replace(rollout, old=replace(rollout.old, logps_BT=moved * rollout.mask_NT))
        objective = clipped(actor, rollout, entropy_coef=0.1)
        step = objective(ALL)
        step.loss_sum.backward()
        gradients = [p.grad.flatten() for p in actor.model.parameters() if p.grad is not None]
        found.append((float(step.loss_sum.detach()), torch.cat(gradients)))
    (loss, gradient), (plain_loss, plain_gradient) = found
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert float((gradient - plain_gradient).norm() / plain_gradient.norm()) < 1e-5


@pytest.mark.parametrize("mean", ["token", "sequence", "fixed_length"])
def test_micro_batches_add_up(mean: str) -> None:
    actor = actor_on(causal("llama"))
    rollout = rolled_out(actor)
    objective = clipped(actor, rollout, mean=mean, entropy_coef=0.1)
    whole = objective(ALL).loss_sum / objective.weight(ALL)
    parts = sum(objective(ALL[start : start + 2]).loss_sum for start in (0, 2))
    assert float(parts / objective.weight(ALL)) == pytest.approx(float(whole), rel=1e-5)


def test_metrics_are_means_over_tokens() -> None:
    actor = actor_on(causal("llama"))
    rollout = rolled_out(actor)
    step = clipped(actor, rollout)(ALL)
    tokens = sum(len(reply) for group in GROUPS for reply in group.replies)
    assert step.metrics["policy/ratio"][1] == tokens
    metrics = {name: (float(value), float(count)) for name, (value, count) in step.metrics.items()}
    assert mean_of(metrics, "policy/loss") == pytest.approx(
        -float((clipped(actor, rollout).advantages.advantages_NT[rollout.mask_NT]).mean()), rel=1e-4
    )
