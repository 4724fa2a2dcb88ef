"""Weights in four bits under QLoRA (Dettmers et al. 2023): how they are read, and what they stand for."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import ModelError
from align.models.source import ModelSource

PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.")
"""Entries beside a weight in a state dict, which say what its four bits stand for."""


def refuse_no_four_bits(source: ModelSource | None) -> None:
    """Raises ``ModelError`` without CUDA, bitsandbytes, or a checkpoint to read in four bits."""
    if not torch.cuda.is_available():
        raise ModelError(
            "adapter=qlora computes in four bits on CUDA devices, and there is none: take adapter=lora, or "
            "run it where there is a GPU"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("adapter=qlora needs bitsandbytes: pip install 'align[qlora]'")
    if source is None:
        raise ModelError("adapter=qlora reads a checkpoint in four bits: give model.path")


def four_bits() -> dict[str, Any]:
    """Arguments of ``from_pretrained``: NormalFloat with doubly quantised constants, as in the paper."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def is_quantised(layer: nn.Module | None) -> bool:
    """Whether a layer's weight is four bits wide."""
    return getattr(getattr(layer, "weight", None), "quant_state", None) is not None


def widened(layer: Any) -> Tensor:
    """The weight that a quantised layer multiplies by, in float32."""
    from bitsandbytes.functional import dequantize_4bit

    wide: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return wide.float()
