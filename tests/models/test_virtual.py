"""Virtual tokens in our packed rows, padded rows and decoder give the numbers of peft's own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import ARCHITECTURES, random_causal, randomised, texts, tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from align.errors import ConfigError, ModelError
from align.generation.sampler import open_sampler
from align.models.build import quiet, seeded
from align.models.forward import reply_logps
from align.models.policy import Policy, load_policy, save_policy
from align.models.save import base_fingerprint, plain_model
from align.models.scalar import load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.models.tokenizer import train_tokenizer
from align.models.virtual import virtual_of
from align.packing.layout import ReplyGroup
from align.packing.probe import open_forward
from align.settings import SamplingSettings

KINDS = ("prompt", "prefix")
COUNT = 5
RNG = np.random.default_rng(0)


def drawn(length: int) -> Any:
    return RNG.integers(6, 290, size=length, dtype=np.int32)


GROUPS = [
    ReplyGroup(drawn(prompt), (drawn(first), drawn(second)))
    for prompt, first, second in ((3, 7, 4), (11, 2, 9))
]


def settings(kind: str) -> AdapterSettings:
    return AdapterSettings(kind=kind, virtual_tokens=COUNT)  # type: ignore[arg-type]


def hf_folder(folder: Path, architecture: str = "llama") -> Path:
    with quiet():
        random_causal(architecture).save_pretrained(folder)
        train_tokenizer(texts(), 300).save_pretrained(folder)
    return folder


def load(path: Path | str, adapter: AdapterSettings) -> Policy:
    return load_policy(ModelSettings(path=str(path), max_length=48), adapter, texts=None, seed=0)


def disturb(model: Any) -> None:
    with seeded(7), torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def by_peft(model: Any, prompt: Any, reply: Any) -> torch.Tensor:
    """Log-probabilities of a reply by peft's own forward, alone in its row."""
    ids = torch.from_numpy(np.concatenate((prompt, reply)).astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
    found = logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)
    return found[len(prompt) - 1 :]


def rows() -> list[tuple[Any, Any]]:
    """Prompts and replies in the order that forwards give: first replies first."""
    return [(group.prompt_ids, group.replies[order]) for order in range(2) for group in GROUPS]


def apart(found: Any, expected: list[torch.Tensor]) -> float:
    both = zip(found.logps_BT.detach(), expected, strict=True)
    return max(float((row[: len(one)] - one.detach()).abs().max()) for row, one in both)


@pytest.mark.medium
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_and_steps_give_pefts_own_numbers(tmp_path: Path, architecture: str, kind: str) -> None:
    policy = load(hf_folder(tmp_path / "base", architecture), settings(kind))
    disturb(policy.model)
    policy.model.eval()
    expected = [by_peft(policy.model, *row) for row in rows()]
    forward = open_forward(policy.model, policy.pad_id, say=pytest.fail)  # what is padded would be said
    with torch.no_grad():
        assert apart(forward.logps(GROUPS), expected) < 1e-5
    plain = load(tmp_path / "base", AdapterSettings())
    without = reply_logps(plain.model, *map(list, zip(*rows(), strict=True)), policy.pad_id)
    assert apart(without, expected) > 1e-2, "the tokens change nothing"

    sampler = open_sampler(policy, say=pytest.fail)
    prompts = [group.prompt_ids for group in GROUPS]
    drawn = sampler.draw(prompts, SamplingSettings(max_new_tokens=9, temperature=1.0), seed=0)
    for prompt, reply in zip(prompts, drawn, strict=True):
        own = by_peft(policy.model, prompt, np.array(reply.token_ids))
        assert float((torch.from_numpy(reply.logps) - own).abs().max()) < 1e-5


def test_padded_rows_give_pefts_own_numbers_and_a_prefix_refuses_them(tmp_path: Path) -> None:
    base = hf_folder(tmp_path / "base")
    policy = load(base, settings("prompt"))
    expected = [by_peft(policy.model, *row) for row in rows()]
    forward = open_forward(policy.model, policy.pad_id, attention="padded")
    with torch.no_grad():
        assert apart(forward.logps(GROUPS), expected) < 1e-5
    with pytest.raises(ModelError, match="adapter=prefix needs an attention that can be exchanged"):
        open_forward(load(base, settings("prefix")).model, policy.pad_id, attention="padded")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_tokens_and_nothing_else_and_are_pefts(tmp_path: Path, kind: str) -> None:
    policy = load(hf_folder(tmp_path / "base"), settings(kind))
    trained = [one for one in policy.model.parameters() if one.requires_grad]
    assert len(trained) == 1
    policy.model.eval()
    ids = [torch.from_numpy(np.concatenate(row).astype(np.int64))[None] for row in rows()]
    theirs = 0
    for (prompt, _), one in zip(rows(), ids, strict=True):
        logits = policy.model(input_ids=one, attention_mask=torch.ones_like(one)).logits[:, -one.shape[1] :]
        logps = logits[0, :-1].log_softmax(-1).gather(-1, one[0, 1:, None]).squeeze(-1)
        theirs = theirs + logps[len(prompt) - 1 :].sum()
    (expected,) = torch.autograd.grad(theirs, trained)
    assert float(expected.abs().max()) > 0
    forward = open_forward(policy.model, policy.pad_id)
    forward.logps(GROUPS).sums_B().sum().backward()
    torch.testing.assert_close(trained[0].grad, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_base_exactly(tmp_path: Path, kind: str) -> None:
    base = hf_folder(tmp_path / "base")
    policy, plain = load(base, settings(kind)), load(base, AdapterSettings())
    assert base_fingerprint(policy.model) == base_fingerprint(plain.model)
    forward, other = (open_forward(one.model, one.pad_id) for one in (policy, plain))
    with policy.reference() as model:
        assert model is policy.model
        found = forward.logps(GROUPS).logps_BT
    with torch.no_grad():
        assert torch.equal(found, other.logps(GROUPS).logps_BT)
        assert not torch.equal(found, forward.logps(GROUPS).logps_BT)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_read_again_frozen_or_to_go_on_with(tmp_path: Path, kind: str) -> None:
    policy = load(hf_folder(tmp_path / "base"), settings(kind))
    disturb(policy.model)
    save_policy(policy, tmp_path / "run" / "model")

    def logps(one: Policy) -> torch.Tensor:
        with torch.no_grad():
            return open_forward(one.model.eval(), one.pad_id).logps(GROUPS).logps_BT

    expected = logps(policy)
    for place in ("run", "run/model", "run/adapter"):
        frozen = load(tmp_path / place, AdapterSettings())
        assert torch.equal(logps(frozen), expected), place
        assert not any(one.requires_grad for one in frozen.model.parameters())
    onward = load(tmp_path / "run", settings(kind))
    assert torch.equal(logps(onward), expected)
    disturb(onward.model)
    assert not torch.equal(logps(onward), expected)
    with onward.reference():  # where this one starts, not the bare base
        assert torch.equal(logps(onward), expected)
    assert base_fingerprint(onward.model) != base_fingerprint(policy.model)
    virtual = virtual_of(plain_model(onward.model))
    assert virtual is not None
    assert (virtual.off, virtual.shown) == (False, None)

    # never the base without its tokens, in silence
    with pytest.raises(ValueError, match=r"(?i)peft|prompt|prefix"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_a_scalar_model_keeps_tokens_and_head(tmp_path: Path, kind: str) -> None:
    base = hf_folder(tmp_path / "base")
    own = ModelSettings(path=str(base), max_length=48)
    scalar = load_scalar(own, settings(kind), texts=None, seed=0)
    disturb(scalar.model)
    save_scalar(scalar, tmp_path / "run" / "model")
    again, alone = (
        load_scalar(
            ModelSettings(path=str(path), max_length=48), AdapterSettings(), texts=None, seed=1, trained=True
        )
        for path in (tmp_path / "run", tmp_path / "run" / "adapter")
    )
    scores = []
    for one in (scalar, again, alone):
        with torch.no_grad():
            scores.append(open_forward(one.model.eval(), one.pad_id).scores(GROUPS))
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])
    assert float(scores[0].std()) > 0


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    base = hf_folder(tmp_path / "base")
    with pytest.raises(ModelError, match=r"give model\.max_length=59"):
        load_policy(ModelSettings(path=str(base), max_length=64), settings("prompt"), texts=None, seed=0)
    fresh = load_policy(tiny(), settings("prompt"), texts=texts, seed=0)
    assert fresh.positions == 64, "one from scratch gets room for its tokens"
    save_policy(load(base, settings("prompt")), tmp_path / "run" / "model")
    with pytest.raises(ModelError, match="go on with adapter=prompt"):
        load(tmp_path / "run", AdapterSettings(kind="lora"))
    with pytest.raises(ModelError, match=f"give adapter.virtual_tokens={COUNT}"):
        load(tmp_path / "run", AdapterSettings(kind="prompt", virtual_tokens=COUNT + 1))
    with pytest.raises(ConfigError, match="rank is for adapter=lora"):
        AdapterSettings(kind="prompt", rank=4)
    with pytest.raises(ConfigError, match="virtual_tokens is for adapter=prompt"):
        AdapterSettings(kind="dora", virtual_tokens=4)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="there is none: take adapter=lora"):
            load(base, AdapterSettings(kind="qlora"))


def test_an_architecture_that_does_not_number_its_layers_takes_no_prefix() -> None:
    whole = random_causal("llama")
    del whole.model.layers[1].self_attn.layer_idx
    from align.models.virtual import attention_layers

    with pytest.raises(ModelError, match="take adapter=prompt"):
        attention_layers(whole)
    assert (
        len(attention_layers(randomised(AutoModelForSequenceClassification, ARCHITECTURES["gpt2"](300)))) == 2
    )
