"""Write a model as a Hugging Face folder: whole or absent, an adapter merged in, nothing else changed."""

from __future__ import annotations

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
from transformers import PreTrainedTokenizerBase

from align.files import sync, write_json
from align.models.build import quiet

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

    Under an adapter the weights in ``directory`` have it merged in, so that they load by themselves, and
    the adapter as it is goes to ``adapter`` beside it, with the fingerprint of the weights under it. The
    model in memory is only read.
    """
    base = plain_model(model)
    with quiet(), whole_folder(directory) as aside:
        base.save_pretrained(aside, state_dict=merged_state(model))
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
            leaf = inside.removeprefix("base_layer.")
            layer = layers[owner]
            changed = adapter and leaf == "weight"
            merged[f"{owner}.{leaf}"] = value + _delta(layer, value) if changed else value
        elif inside.startswith(kept):
            merged[f"{owner}.{inside.removeprefix(kept)}"] = value
    return merged


def base_fingerprint(model: Any) -> str:
    """SHA-256 of the weights (names, shapes, bytes) and config that a model has with its adapter off.

    It is the same under LoRA as for the plain model that the adapter was put on.
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


def _delta(layer: Any, weight: Tensor) -> Tensor:
    deltas = [layer.get_delta_weight(name) for name in layer.active_adapters if name in layer.lora_A]
    return sum(deltas, start=weight.new_zeros(())).to(weight.dtype)


def _adapted_owner(name: str, layers: dict[str, Any]) -> str | None:
    """The layer with an adapter, or the trained copy of a head, that a weight lies in."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        owner = ".".join(parts[:end])
        if isinstance(layers.get(owner), LoraLayer | ModulesToSaveWrapper):
            return owner
    return None
