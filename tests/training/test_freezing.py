"""Frozen and gradually unfrozen layers: which parameters move when, and with what moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architectures import ARCHITECTURES, random_causal, texts, tiny

from align.errors import ModelError
from align.models.policy import load_policy
from align.models.settings import AdapterSettings
from align.settings import TrainingSettings
from align.training.freezing import blocks_of, freeze, thawing
from align.training.optimiser import build_optimiser, trainable_parameters


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_shows_its_blocks(architecture: str) -> None:
    (stack,) = blocks_of(random_causal(architecture))
    assert len(stack) == 2


def test_words_freeze_what_they_name() -> None:
    model = random_causal("llama")
    everything = trained(model)
    freeze(model, ("embeddings", "first_1_block", "*.input_layernorm.*"))
    gone = everything - trained(model)
    assert gone == {
        name
        for name in everything
        if "embed_tokens" in name or ".layers.0." in name or "input_layernorm" in name
    }
    assert len([name for name in gone if ".layers.1." in name]) == 1


@pytest.mark.parametrize("word", ["lm_haed*", "first_9_blocks", "model.layers.0"])
def test_words_that_name_nothing_are_refused(word: str) -> None:
    with pytest.raises(ModelError, match=f"training.frozen={word.replace('*', '.')}"):
        freeze(random_causal("llama"), (word,))


def test_what_an_adapter_freezes_cannot_be_frozen_once_more() -> None:
    policy = load_policy(tiny(), AdapterSettings(kind="lora"), texts=texts, seed=0)
    with pytest.raises(ModelError, match="names nothing that is trained"):
        freeze(policy.model, ("embeddings",))


def test_blocks_join_from_the_top_and_tables_come_last() -> None:
    model = random_causal("llama")
    thaw = thawing(trainable_parameters(model), model, every=3, total=100)
    top = {name for name, _ in model.named_parameters() if ".layers.1." in name}
    low = {name for name, _ in model.named_parameters() if ".layers.0." in name}
    above = {"model.norm.weight", "lm_head.weight"}
    for step in (1, 3):
        thaw(step)
        assert trained(model) == top | above, step
    thaw(4)
    assert trained(model) == top | above | low
    for step in (7, 90):
        thaw(step)
        assert trained(model) == {name for name, _ in model.named_parameters()}
    thaw(2)  # a run that is resumed at an early step
    assert trained(model) == top | above


def test_what_is_frozen_by_name_never_joins() -> None:
    model = random_causal("llama")
    freeze(model, ("embeddings",))
    thaw = thawing(trainable_parameters(model), model, every=1, total=100)
    thaw(50)
    assert trained(model) == {name for name, _ in model.named_parameters()} - {"model.embed_tokens.weight"}


def test_a_run_that_ends_before_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = random_causal("llama")
    thawing(trainable_parameters(model), model, every=10, total=20)
    assert "join at step 21, and this run has 20: 1 of" in capsys.readouterr().out


def test_a_parameter_that_joins_takes_the_step_of_a_fresh_adamw() -> None:
    """With bias corrections from its own first step, its first move is rate * sign(gradient)."""
    model = random_causal("llama")
    settings = TrainingSettings(learning_rate=0.01)
    parameters = trainable_parameters(model)
    optimiser = build_optimiser(parameters, settings)
    thaw = thawing(parameters, model, every=2, total=100)
    low = parameters["model.layers.0.mlp.up_proj.weight"]
    before = low.detach().clone()
    for step in (1, 2, 3):
        thaw(step)
        optimiser.zero_grad(set_to_none=True)
        model(input_ids=torch.arange(6, 30)[None]).logits.square().mean().backward()
        if step < 3:
            assert low.grad is None
            assert torch.equal(low, before)
        optimiser.step()
    assert low.grad is not None
    expected = before - 0.01 * low.grad / (low.grad.abs() + 1e-8)
    torch.testing.assert_close(low.detach(), expected, atol=1e-6, rtol=0)
    assert float(optimiser.state[low]["step"]) == 1
    assert float(optimiser.state[parameters["lm_head.weight"]]["step"]) == 3


def test_a_model_without_blocks_cannot_thaw() -> None:
    model: Any = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="its blocks are unknown"):
        thawing(trainable_parameters(model), model, every=1, total=2)


def test_nothing_is_asked_of_a_model_that_trains_whole(tmp_path: Path) -> None:
    thawing({}, torch.nn.Linear(2, 2), every=None, total=2)(1)
