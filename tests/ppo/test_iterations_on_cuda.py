"""Iterations of PPO on CUDA: what holds on the CPU to the last bit, or to rounding, holds there too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from iterations import PPO, iterations
from tiny_architectures import ARCHITECTURES

from align.ppo.settings import RolloutSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

SAMPLED = replace(PPO, rollout=RolloutSettings(old_logps="sampled"))
RECOMPUTED = replace(PPO, rollout=RolloutSettings(old_logps="recomputed"))


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recomputed_log_probabilities_are_those_of_the_first_minibatch(architecture: str, lora: bool) -> None:
    found = iterations(RECOMPUTED, architecture=architecture, lora=lora, device="cuda").take()
    assert found["rollout/logps_gap"] == found["policy/approx_kl"] == found["policy/clip_fraction"] == 0.0
    assert found["policy/ratio"] == 1.0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sampled_log_probabilities_are_off_by_rounding_only(architecture: str) -> None:
    found = iterations(SAMPLED, architecture=architecture, device="cuda").take()
    assert found["rollout/logps_gap"] < 1e-5


def test_in_bfloat16_the_gap_is_a_metric() -> None:
    found = iterations(SAMPLED, device="cuda", dtype=torch.bfloat16).take()
    assert 0 < found["rollout/logps_gap"] < 0.1
    assert iterations(RECOMPUTED, device="cuda", dtype=torch.bfloat16).take()["rollout/logps_gap"] == 0.0


def test_an_iteration_is_that_of_the_cpu() -> None:
    """The same replies where rounding decides no token, and then the same numbers."""
    here, there = (
        iterations(RECOMPUTED, device=place, temperature=0.0, trained_at=0.7).take()
        for place in ("cpu", "cuda")
    )
    assert here.keys() == there.keys()
    assert there["rollout/length"] == here["rollout/length"]
    for name in ("loss", "grad_norm", "rollout/kl", "rollout/entropy", "value/mean"):
        assert there[name] == pytest.approx(here[name], rel=1e-3, abs=1e-5), name
