"""QLoRA: what is saved are the weights that the four bits stand for, with the updates merged in.

bitsandbytes computes on processors, too, slowly: all but the refusal of devices without CUDA is tested
there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architectures import randomised, texts
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

from align.models import build
from align.models.build import quiet, seeded
from align.models.four_bits import four_bits, is_quantised, widened
from align.models.policy import Policy, load_policy, save_policy
from align.models.save import plain_model
from align.models.settings import AdapterSettings, ModelSettings
from align.models.tokenizer import train_tokenizer

pytestmark = pytest.mark.medium
INPUT = torch.arange(6, 30)[None]


@pytest.fixture
def quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """A policy on four bits, its updates moved from where they start."""
    pytest.importorskip("bitsandbytes")
    config = LlamaConfig(
        vocab_size=300, hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4
    )
    with quiet():
        randomised(AutoModelForCausalLM, config).save_pretrained(tmp_path / "base")
        train_tokenizer(texts(), 300).save_pretrained(tmp_path / "base")
    wide = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    monkeypatch.setattr(build, "refuse_no_four_bits", lambda source: None)
    monkeypatch.setattr(build, "four_bits", lambda: {"quantization_config": wide, "device_map": {"": "cpu"}})
    settings = ModelSettings(path=str(tmp_path / "base"), max_length=48)
    policy = load_policy(settings, AdapterSettings(kind="qlora", rank=4), texts=None, seed=0)
    for module in policy.model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # it would repack the bits for a kernel of its own
    with seeded(7), torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    policy.model.eval()
    return policy


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=INPUT).logits
    return found


def test_the_saved_policy_is_wide_and_gives_the_numbers_of_the_narrow_one(
    tmp_path: Path, quantised: Policy
) -> None:
    narrow = [one for one in plain_model(quantised.model).modules() if is_quantised(one)]
    assert len(narrow) >= 14, "seven linear layers in each of two blocks"
    before = logits(quantised.model)
    save_policy(quantised, tmp_path / "run" / "model")
    assert torch.equal(logits(quantised.model), before)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").eval()
    assert saved.dtype == torch.float32
    assert not hasattr(saved.config, "quantization_config")
    assert float((logits(saved) - before).abs().max()) < 1e-4
    with quantised.reference() as reference:
        assert float((logits(reference) - before).abs().max()) > 1e-2


def test_four_bits_lose_something_and_only_linear_layers_have_them(tmp_path: Path, quantised: Policy) -> None:
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    layer = plain_model(quantised.model).model.layers[0].self_attn.q_proj.get_base_layer()
    wide, exact = widened(layer), base.model.layers[0].self_attn.q_proj.weight
    error = float((wide - exact).detach().norm() / exact.detach().norm())
    assert 0.01 < error < 0.2
    whole = plain_model(quantised.model)
    assert torch.equal(whole.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert whole.lm_head.weight.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks for the CUDA device")
def test_it_is_read_as_the_paper_says() -> None:
    config = four_bits()["quantization_config"]
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
