"""Policies over tiny models of any architecture, and replies written the long way: a plain pass a token."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from tiny_architectures import random_causal

from align.models.build import quiet, seeded
from align.models.policy import Policy
from align.models.save import plain_model
from align.tensors import SampledReply

TokenIds = NDArray[np.int32]
STOPS = tuple(range(30))
"""The tokens that end a reply: a tenth of all, so that replies differ in length."""


def policy_over(model: Any) -> Policy:
    """A policy whose tokens are numbers: ``STOPS`` end a reply, a text names its tokens."""
    chat = SimpleNamespace(stop_ids=STOPS, decode_reply=lambda ids: " ".join(map(str, ids)))
    return Policy(
        model, cast(Any, SimpleNamespace(pad_token_id=0)), cast(Any, chat), model.device, 64, lambda: None
    )


def adapted(model: Any) -> Any:
    """The model under a LoRA adapter that changes it."""
    names = {name.rpartition(".")[2] for name, one in model.named_modules() if "Linear" in type(one).__name__}
    names |= {
        name.rpartition(".")[2] for name, one in model.named_modules() if "Conv1D" in type(one).__name__
    }
    with seeded(2), quiet():
        found = get_peft_model(
            model, LoraConfig(r=2, target_modules=sorted(names - {"lm_head", "embed_out"}))
        )
        with torch.no_grad():
            for name, parameter in found.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    return found


def tiny(architecture: str, adapter: str = "none", dtype: torch.dtype = torch.float32) -> Policy:
    """A policy of an architecture, whose logits lie far enough apart that rounding decides nothing."""
    model = random_causal(architecture).to(dtype)
    return policy_over(adapted(model) if adapter == "lora" else model)


def prompts(*lengths: int, seed: int = 0, vocabulary: int = 300) -> list[TokenIds]:
    """Made-up prompts of these lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(vocabulary, size=length, dtype=np.int32) for length in lengths]


def greedy(policy: Policy, prompt: TokenIds, most: int) -> list[int]:
    """The most likely tokens, by a plain pass over the whole text for each."""
    written: list[int] = []
    policy.model.eval()
    while len(written) < most and not (written and written[-1] in STOPS):
        ids = torch.tensor([[*prompt.tolist(), *written]])
        with torch.no_grad():
            written.append(int(policy.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()))
    return written


def hidden_at(policy: Policy, prompt: TokenIds, reply: SampledReply) -> torch.Tensor:
    """Hidden states (T, H) that predict each token of a reply, from a plain pass."""
    whole = plain_model(policy.model).eval()
    ids = torch.tensor([[*prompt.tolist(), *reply.token_ids]])
    with torch.no_grad():
        hidden = getattr(whole, whole.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
    return cast(torch.Tensor, hidden[0, len(prompt) - 1 : -1])


def token_ids(replies: Sequence[SampledReply]) -> list[tuple[int, ...]]:
    return [one.token_ids for one in replies]
