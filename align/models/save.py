"""Write a model as a Hugging Face folder: whole or absent, an adapter merged in, nothing else changed."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from transformers import PreTrainedTokenizerBase, modeling_utils

from align.files import sync, write_json
from align.models.build import quiet
from align.models.four_bits import PARTS, is_quantised, widened
from align.models.virtual import virtual_of

BASE_FILE = "base.json"
"""Beside an adapter: the fingerprint of the weights that it was trained on."""


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name ``directory`` once all is on disk.

    What stood there before is replaced; after an error it still stands there.
    """
    aside = directory.with_name(f".{directory.name}.partial")
    old = directory.with_name(f".{directory.name}.old")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in [*aside.rglob("*"), aside]:
            sync(path)
        if directory.exists():
            directory.rename(old)
        aside.rename(directory)
        sync(directory.parent)
    except BaseException:
        if old.exists() and not directory.exists():
            old.rename(directory)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def save_model(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Weights (safetensors), config and tokenizer (chat template included) in ``directory``.

    Under low-rank updates the weights in ``directory`` have them merged in, so that they load by themselves;
    virtual tokens cannot be merged and lie beside the weights, where ``find_model`` sees them. The adapter as
    it is goes to ``adapter`` as well, with the fingerprint of the weights under it. The model in memory is
    only read.
    """
    base = plain_model(model)
    with quiet(), _never_wrapped(), whole_folder(directory) as aside:
        _without_bits(base).save_pretrained(aside, state_dict=merged_state(model))
        if virtual_of(base) is not None:
            model.save_pretrained(aside, save_embedding_layers=False)
        tokenizer.save_pretrained(aside)
    if isinstance(model, PeftModel):
        save_adapter(model, tokenizer, directory.with_name("adapter"))


def save_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """An adapter alone in ``directory``, with the fingerprint of the weights under it."""
    with quiet(), whole_folder(directory) as aside:
        # "auto" would ask the Hub how large the base's vocabulary is
        model.save_pretrained(aside, save_embedding_layers=False)
        tokenizer.save_pretrained(aside)
        write_json(aside / BASE_FILE, {"sha256": backbone_fingerprint(model)})


@contextmanager
def _never_wrapped() -> Iterator[None]:
    """transformers looks for wrappers around what it saves, and imports DeepSpeed (2 s) to know its own.

    ``save_model`` is handed plain models alone.
    """
    search = modeling_utils.unwrap_model
    modeling_utils.unwrap_model = lambda model, recursive=False: model
    try:
        yield
    finally:
        modeling_utils.unwrap_model = search


def _without_bits(base: Any) -> Any:
    """What writes a wide state dict: the model itself, or an empty one of its shape if it is quantised."""
    if getattr(base.config, "quantization_config", None) is None:
        return base
    config = copy.deepcopy(base.config)
    del config.quantization_config
    with torch.device("meta"):
        return type(base)(config)


def plain_model(model: Any) -> Any:
    """The transformers model under an adapter, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def backbone_of(model: Any) -> torch.nn.Module | None:
    """The transformers model without its head, where it keeps that apart."""
    whole = plain_model(model)
    backbone = getattr(whole, whole.base_model_prefix or "", None)
    return backbone if isinstance(backbone, torch.nn.Module) else None


def merged_state(model: Any, *, adapter: bool = True) -> dict[str, Tensor]:
    """The weights that the model computes with, under the names that it has without an adapter.

    Only the layers that have an adapter are copied; merging in place and back would leave rounding errors
    in the model that goes on training. With ``adapter`` false: the weights with the adapter off.
    """
    base = plain_model(model)
    if not isinstance(model, PeftModel):
        return dict(base.state_dict())
    virtual = virtual_of(base)
    start = None if virtual is None else virtual.start
    layers = dict(base.named_modules())
    kept = "modules_to_save.default." if adapter else "original_module."
    merged: dict[str, Tensor] = {}
    for name, value in base.state_dict().items():
        owner = _adapted_owner(name, layers)
        if owner is None:
            merged[name] = value
            continue
        inside = name[len(owner) + 1 :]
        if inside.startswith("base_layer."):
            leaf, layer = inside.removeprefix("base_layer."), layers[owner]
            if leaf.removeprefix("weight.").startswith(PARTS):
                continue
            if leaf == "weight" and is_quantised(layer.get_base_layer()):
                value = widened(layer.get_base_layer())
            merged[f"{owner}.{leaf}"] = _updated(layer, value) if adapter and leaf == "weight" else value
        elif inside.startswith(kept):
            merged[f"{owner}.{inside.removeprefix(kept)}"] = value
    if start is not None and not adapter:
        merged["virtual_tokens"] = start
    return merged


def base_fingerprint(model: Any) -> str:
    """SHA-256 of the weights (names, shapes, bytes) and config that a model has with its adapter off.

    It is the same under an adapter as for the plain model that it was put on.
    """
    config = plain_model(model).config.to_json_string(use_diff=False)
    return _digest(config, merged_state(model, adapter=False))


def backbone_fingerprint(model: Any) -> str:
    """SHA-256 of the weights below the head that a model has with its adapter off.

    It is the same for a policy and for a reward model that were put on the same weights.
    """
    base = plain_model(model)
    state, inside = merged_state(model, adapter=False), f"{base.base_model_prefix}."
    below = {name.removeprefix(inside): one for name, one in state.items() if name.startswith(inside)}
    return _digest(base.config.model_type, below or state)


def saved_base(adapter: Path) -> str | None:
    """``backbone_fingerprint`` of the weights that an adapter in a folder was trained on; None if unsaid."""
    path = adapter / BASE_FILE
    return str(json.loads(path.read_text(encoding="utf-8"))["sha256"]) if path.is_file() else None


def _digest(config: str, state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(config.encode())
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter: each core takes a tensor
        parts = pool.map(_tensor_digest, state.values())
        for (name, tensor), part in sorted(zip(state.items(), parts, strict=True), key=lambda one: one[0][0]):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {part}\n".encode())
    return digest.hexdigest()


def _tensor_digest(tensor: Tensor) -> str:
    whole = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(whole.numpy().data).hexdigest()


def _updated(layer: Any, weight: Tensor) -> Tensor:
    """A layer's weight with its low-rank updates, as the layer computes."""
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        weight = weight + layer.get_delta_weight(name).to(weight.dtype)
        if name in layer.lora_magnitude_vector:  # DoRA: rows of these lengths (Liu et al. 2024, eq. 5)
            lengths = layer.lora_magnitude_vector[name].weight.to(weight.dtype)
            inputs = 0 if layer.fan_in_fan_out else 1
            weight = weight * (lengths.unsqueeze(inputs) / weight.norm(dim=inputs, keepdim=True))
    return weight


def _adapted_owner(name: str, layers: dict[str, Any]) -> str | None:
    """The layer with an adapter, or the trained copy of a head, that a weight lies in."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        owner = ".".join(parts[:end])
        if isinstance(layers.get(owner), LoraLayer | ModulesToSaveWrapper):
            return owner
    return None
