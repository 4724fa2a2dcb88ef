"""Adapters by the word after ``adapter=``: peft's own, put on a model whose weights then stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
    load_peft_weights,
    set_peft_model_state_dict,
)
from transformers import DynamicCache

from align.errors import ModelError
from align.models.build import Origin, longest_input, quiet, seeded
from align.models.settings import LOW_RANK, VIRTUAL, AdapterSettings
from align.models.source import adapter_kind, adapter_task
from align.models.virtual import attach, virtual_of

EMBEDDINGS = "prompt_embeddings"
"""The name under which peft saves virtual tokens."""


def with_adapter(base: Any, origin: Origin, adapter: AdapterSettings, task: str, seed: int) -> Any:
    """The model with an earlier adapter merged in, and the new one that the settings ask for put on.

    Virtual tokens cannot be merged into weights. A model that was trained with some keeps them: frozen under
    ``adapter=none``, and trained further under the kind that made them, the reference then being the model
    with the tokens that it started with.

    Raises:
        ModelError: no layer has one of the names in ``adapter.target_modules``; virtual tokens of another
            kind or number at ``model.path``, no room for them, or an architecture that cannot take them.
    """
    earlier = origin.source.adapter if origin.source is not None else None
    if earlier is not None and adapter_task(earlier) == "SEQ_CLS" and task == "CAUSAL_LM":
        raise ModelError(f"{earlier} is a reward model's adapter, not a policy's")
    kind = adapter_kind(earlier) if earlier is not None else None
    if earlier is not None and kind in VIRTUAL:
        return _on_virtual(base, origin, earlier, adapter, task, seed)
    if earlier is not None:
        base = PeftModel.from_pretrained(base, earlier).merge_and_unload()
    if adapter.kind == "none":
        return base
    return _put_on(base, origin, adapter, task, seed)


def _put_on(base: Any, origin: Origin, adapter: AdapterSettings, task: str, seed: int) -> Any:
    with seeded(seed), quiet():
        config = _config(base, adapter, task)
        try:
            adapted = get_peft_model(base, config)
        except ValueError as error:
            raise ModelError(f"adapter.target_modules={adapter.target_modules}: {error}") from error
        if adapter.kind in VIRTUAL:
            _begin_virtual(adapted, origin, adapter)
    # peft writes where the base was loaded from, also where that is not all of the base
    source = origin.source
    whole = None if source is None or source.adapter is not None else source.weights
    adapted.peft_config["default"].base_model_name_or_path = whole
    return adapted


def _config(base: Any, adapter: AdapterSettings, task: str) -> PeftConfig:
    kind = TaskType[task]
    if adapter.kind in LOW_RANK:
        return LoraConfig(
            task_type=kind,
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=list(adapter.target_modules) if adapter.target_modules else "all-linear",
            use_dora=adapter.kind == "dora",
        )
    count = adapter.virtual_tokens
    if adapter.kind == "prompt":
        # Lester et al. 2021, section 3.2: words of the vocabulary are a better start than noise
        return PromptTuningConfig(task_type=kind, num_virtual_tokens=count, prompt_tuning_init="SAMPLE_VOCAB")
    heads, width = held_shape(base)
    return PrefixTuningConfig(
        task_type=kind, num_virtual_tokens=count, token_dim=heads * width, num_attention_heads=heads
    )


def _begin_virtual(adapted: Any, origin: Origin, adapter: AdapterSettings) -> None:
    """Lets the model read its virtual tokens; a prefix starts as what real words leave in attention's memory.

    (Li & Liang 2021, section 7.4: activations of real words are a better start than noise.)
    """
    whole, encoder = adapted.get_base_model(), adapted.prompt_encoder["default"]
    _refuse_no_room(whole, origin.max_length, adapter)
    if adapter.kind == "prompt":
        attach(whole, encoder, None)
        return
    shape = held_shape(whole)
    words = torch.randint(whole.get_input_embeddings().num_embeddings, (1, adapter.virtual_tokens))
    backbone, memory = getattr(whole, whole.base_model_prefix), DynamicCache()
    with torch.no_grad():
        backbone(input_ids=words.to(whole.device), past_key_values=memory, use_cache=True)
        held = [torch.stack((one.keys[0], one.values[0])) for one in memory.layers]  # each 2, G, P, D
        encoder.embedding.weight.copy_(torch.stack(held).permute(3, 0, 1, 2, 4).flatten(1))
    attach(whole, encoder, shape)


def _on_virtual(
    base: Any, origin: Origin, earlier: str, adapter: AdapterSettings, task: str, seed: int
) -> Any:
    """A model with the virtual tokens of an earlier run."""
    kind, weights = adapter_kind(earlier), load_peft_weights(earlier, device="cpu")
    count = len(weights[EMBEDDINGS])
    if adapter.kind not in ("none", kind):
        raise ModelError(
            f"{earlier} was trained with adapter={kind}, whose tokens cannot be merged into weights: go on "
            f"with adapter={kind}, or give the model that it was trained on"
        )
    if adapter.kind != "none" and adapter.virtual_tokens != count:
        raise ModelError(
            f"{earlier} has {count} virtual tokens: give adapter.virtual_tokens={count} to go on with them"
        )
    own = AdapterSettings(kind="prefix" if kind == "prefix" else "prompt", virtual_tokens=count)
    adapted = _put_on(base, origin, own, task, seed)
    virtual = virtual_of(adapted.get_base_model())
    assert virtual is not None, "it was just put on"
    if adapter_task(earlier) == task:  # a reward model's head is in the adapter, too
        set_peft_model_state_dict(adapted, weights)
    else:
        virtual.weight.data.copy_(weights[EMBEDDINGS])
    if adapter.kind == "none":
        adapted.requires_grad_(False)
    else:
        virtual.start = virtual.weight.detach().clone()
    return adapted


def held_shape(whole: Any) -> tuple[int, int]:
    """Key-value heads, and the width of one."""
    text = whole.config.get_text_config()
    heads = int(text.num_attention_heads)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(getattr(text, "num_key_value_heads", None) or heads), int(width)


def _refuse_no_room(whole: Any, max_length: int, adapter: AdapterSettings) -> None:
    positions = longest_input(whole.config)
    if positions is not None and max_length + adapter.virtual_tokens > positions:
        raise ModelError(
            f"model.max_length={max_length} and adapter.virtual_tokens={adapter.virtual_tokens} do not fit "
            f"the model's {positions} positions: give model.max_length={positions - adapter.virtual_tokens}"
        )
