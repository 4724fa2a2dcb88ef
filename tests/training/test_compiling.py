"""Compiled blocks give the numbers of the model as it was, and serve all layers by one version."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import texts, tiny

from align.errors import ModelError
from align.models.policy import load_policy
from align.models.settings import AdapterSettings, ScratchSettings
from align.packing.layout import ReplyGroup
from align.packing.probe import open_forward
from align.training.compiling import compile_blocks

LAYERS = 10
"""More than torch makes versions of one function before it gives up (8)."""
RNG = np.random.default_rng(0)


def batch(prompt: int, first: int, second: int) -> list[ReplyGroup]:
    def drawn(length: int) -> Any:
        return RNG.integers(6, 290, size=length, dtype=np.int32)

    return [ReplyGroup(drawn(prompt + i), (drawn(first), drawn(second + i))) for i in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "lora"])
def test_rows_of_any_length_give_the_same_numbers_and_gradients(kind: str) -> None:
    shape = ScratchSettings(hidden_size=32, layers=LAYERS, heads=2, mlp_size=48, vocab_size=300)
    policy = load_policy(tiny(scratch=shape), AdapterSettings(kind=kind), texts=texts, seed=0)  # type: ignore[arg-type]
    forward = open_forward(policy.model, policy.pad_id)
    batches = [batch(9, 8, 7), batch(20, 3, 11), batch(5, 30, 2)]

    def looked() -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        found = []
        for groups in batches:
            policy.model.zero_grad()
            logps = forward.logps(groups).logps_BT
            logps.sum().backward()
            grads = {
                name: one.grad.clone()
                for name, one in policy.model.named_parameters()
                if one.grad is not None
            }
            found.append((logps.detach(), grads))
        return found

    eager = looked()
    compile_blocks(policy.model)
    torch._dynamo.utils.counters.clear()
    for (before, gradients), (after, others) in zip(eager, looked(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
        assert gradients.keys() == others.keys()
        for name, one in gradients.items():
            torch.testing.assert_close(others[name], one, rtol=1e-4, atol=1e-4, msg=name)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert counters["stats"]["unique_graphs"] < LAYERS, "each layer has a version of its own"


def test_a_processor_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy(tiny(), AdapterSettings(), texts=texts, seed=0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if policy.device.type == "cpu":
        with pytest.raises(ModelError, match="needs a C\\+\\+ compiler"):
            compile_blocks(policy.model)
