"""Steps of fixed shapes write what steps of the rows alive write; on CUDA they are graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import ARCHITECTURES
from torch import Tensor
from written import greedy, policy_over, prompts, tiny, token_ids

from align.generation import fixed
from align.generation.sampler import open_sampler
from align.models.policy import Policy
from align.settings import SamplingSettings

PROMPTS = prompts(11, 3, 17, 1, 3, 11, 9, 5)
GREEDY = SamplingSettings(max_new_tokens=15, temperature=0, batch_size=3)
SOME = prompts(*np.random.default_rng(2).integers(1, 20, size=40))
"""More than there are rows: newcomers wait, and enter together."""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps of fixed shapes on the CPU; how often each recording was repeated."""
    counts: list[int] = []

    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        counts.append(0)

        def repeat() -> Tensor:
            counts[-1] += 1
            return run()

        return repeat

    monkeypatch.setattr(fixed, "RECORD", {"cpu": record})
    return counts


def draw(policy: Policy, settings: SamplingSettings, some: Any = PROMPTS) -> Any:
    return open_sampler(policy, say=pytest.fail).draw(some, settings, seed=0)


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_replies_are_those_of_plain_passes(architecture: str, adapter: str, recorded: list[int]):
    policy = tiny(architecture, adapter)
    got = draw(policy, GREEDY)
    assert [list(one.token_ids) for one in got] == [greedy(policy, one, 15) for one in PROMPTS]
    assert sum(recorded) > 15


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mistral"])
def test_what_is_drawn_is_the_same_as_without(
    architecture: str, recorded: list[int], monkeypatch: pytest.MonkeyPatch
):
    """In float64, where no draw lies within rounding of another token."""
    monkeypatch.setattr("align.generation.cache.RECORDED", 4)
    settings = replace(GREEDY, temperature=0.7, batch_size=6)
    policy = tiny(architecture, dtype=torch.float64)
    got = draw(policy, settings, SOME)
    assert len(recorded) > 2
    assert sum(recorded) > len(recorded)
    monkeypatch.setattr(fixed, "RECORD", {})
    plain = draw(policy, settings, SOME)
    assert token_ids(got) == token_ids(plain)
    for one, other in zip(got, plain, strict=True):
        np.testing.assert_allclose(one.logps, other.logps, atol=1e-6)


def test_a_step_that_cannot_be_recorded_is_taken_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        run()
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    policy = tiny("qwen2")
    monkeypatch.setattr(fixed, "RECORD", {"cpu": record})
    got = draw(policy, GREEDY)
    assert [list(one.token_ids) for one in got] == [greedy(policy, one, 15) for one in PROMPTS]
    assert "cannot be recorded as a CUDA graph (operation not permitted" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_graphs_write_what_plain_steps_write(architecture: str, monkeypatch: pytest.MonkeyPatch):
    policy = policy_over(tiny(architecture, dtype=torch.float64).model.to("cuda"))
    settings = replace(GREEDY, temperature=0.7, batch_size=6)
    taken: list[bool] = []
    graph = fixed.graph
    monkeypatch.setattr(fixed, "RECORD", {"cuda": lambda run: (taken.append(True), graph(run))[1]})
    got = draw(policy, settings, SOME)
    assert taken
    monkeypatch.setattr(fixed, "RECORD", {})
    assert token_ids(got) == token_ids(draw(policy, settings, SOME))
