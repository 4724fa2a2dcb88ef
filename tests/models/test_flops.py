"""Operations counted from the shape, against torch's count of those that a pass runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, LlamaConfig, LlamaForSequenceClassification
from transformers.models.gpt2 import GPT2LMHeadModel
from transformers.models.llama import LlamaForCausalLM

from align.models.flops import PassFlops, pass_flops
from align.models.scalar import LastTokenScores

TOKENS, WIDTH, MLP, VOCABULARY = 7, 16, 24, 50
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": "eager",
}


def counted(model: torch.nn.Module) -> int:
    """Operations of one row, forward and backward; eager attention multiplies every query by every key."""
    ids = torch.arange(TOKENS).unsqueeze(0)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("tied", [False, True])
def test_a_llama_costs_what_torch_counts(tied: bool) -> None:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=tied))
    assert pass_flops(model).of(TOKENS, TOKENS, TOKENS**2) == counted(model)


def test_a_gpt2_costs_what_torch_counts() -> None:
    """Its matrices lie transposed, in a layer of its own kind; its positions are looked up."""
    shape = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 9}
    model = GPT2LMHeadModel(GPT2Config(**shape, attn_implementation="eager"))
    assert pass_flops(model).of(TOKENS, TOKENS, TOKENS**2) == counted(model)


def test_a_scalar_head_is_read_once_a_reply() -> None:
    """A row of the head has 16 weights: 6 x 16 operations; the blocks cost what a policy's do."""
    policy = pass_flops(LlamaForCausalLM(LlamaConfig(**LLAMA)))
    scalar = LastTokenScores(LlamaForSequenceClassification(LlamaConfig(**LLAMA, num_labels=1)))
    assert pass_flops(scalar) == PassFlops(policy.token, 6.0 * WIDTH, policy.attended)
    assert policy.head == 6.0 * WIDTH * VOCABULARY


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    """LoRA of rank 2 on q (16 to 16) and v (16 to 8), 3 layers: 2 x (32 + 24) weights a layer at 6
    operations; all that was there before costs 4 in place of 6."""
    from peft import LoraConfig, get_peft_model

    model = LlamaForCausalLM(LlamaConfig(**LLAMA))
    whole = pass_flops(model)
    adapted = pass_flops(get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])))
    assert adapted.token == whole.token * 4 / 6 + 3 * 2 * (32 + 24) * 6
    assert adapted.head == whole.head * 4 / 6
    assert adapted.attended == whole.attended
