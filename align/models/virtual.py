"""Virtual tokens: what prompt and prefix tuning put before each text, as tokens like any other.

They have the ids behind the vocabulary, and stand before a prompt wherever its tokens stand: in packed rows,
in padded ones, in the memory of what is being written. So positions, masks and kernels treat them as text.
Prompt tuning (Lester et al. 2021) learns their embeddings; prefix tuning (Li & Liang 2021) learns what
attention sees of them in each layer, their keys and values. Both are held in peft's own encoder, and give the
numbers of peft's own forward. Legend: P virtual tokens, G key-value heads, T tokens, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from align.errors import ModelError

TokenIds = NDArray[np.int32]


@dataclass(eq=False)
class Virtual:
    """The virtual tokens of one model."""

    encoder: Any
    """peft's module; its ``embedding.weight`` (P, width) is what is trained."""
    first: int
    """Their first id: the rows that the embedding table has."""
    shape: tuple[int, int] | None
    """Under prefix tuning, G and D; None under prompt tuning."""
    start: Tensor | None = None
    """The weight that an earlier run ended with, where this one goes on from it: the reference's."""
    shown: Tensor | None = None
    """Looked at instead of the encoder's weight, while the reference is asked."""
    off: bool = False

    @property
    def weight(self) -> Tensor:
        """(P, width), with a gradient where it is trained."""
        learnt: Tensor = self.encoder.embedding.weight
        return learnt if self.shown is None else self.shown

    @property
    def ids(self) -> TokenIds:
        """Ids (P,) of the tokens."""
        return np.arange(self.first, self.first + len(self.weight), dtype=np.int32)

    def held(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values (G, P, D) that a layer sees, under prefix tuning."""
        assert self.shape is not None, "prompt tuning has none"
        keys_and_values = self.weight.view(len(self.weight), -1, 2, *self.shape)[:, layer]
        return keys_and_values[:, 0].transpose(0, 1), keys_and_values[:, 1].transpose(0, 1)

    @contextmanager
    def as_at_the_start(self) -> Iterator[None]:
        """The reference inside: without these tokens, or with those that the run began with."""
        before = self.shown, self.off
        self.shown, self.off = self.start, self.start is None
        try:
            yield
        finally:
            self.shown, self.off = before


_of_models: WeakKeyDictionary[nn.Module, Virtual] = WeakKeyDictionary()
_of_layers: WeakKeyDictionary[nn.Module, tuple[Virtual, int]] = WeakKeyDictionary()
"""Of each attention module that sees learnt keys and values, and which layer's they are."""


def virtual_of(whole: Any) -> Virtual | None:
    """The virtual tokens of a transformers model, if it has any."""
    return _of_models.get(whole)


def count_of(whole: Any) -> int:
    """How many virtual tokens stand before each text."""
    virtual = virtual_of(whole)
    return 0 if virtual is None else len(virtual.weight)


def led(whole: Any, prompts: Sequence[TokenIds]) -> Sequence[TokenIds]:
    """Prompts behind the virtual tokens that the model has now; an empty prompt stays one."""
    virtual = virtual_of(whole)
    if virtual is None or virtual.off:
        return prompts
    return [np.concatenate((virtual.ids, one)) if len(one) else one for one in prompts]


def attach(whole: Any, encoder: Any, shape: tuple[int, int] | None) -> Virtual:
    """Lets a transformers model read virtual tokens: their ids, and under prefix tuning their ``shape``.

    Raises:
        ModelError: the architecture does not name its attention layers.
    """
    table = whole.get_input_embeddings()
    virtual = Virtual(encoder, table.num_embeddings, shape)
    layers = attention_layers(whole) if shape is not None else []
    _of_models[whole] = virtual
    _of_layers.update({layer: (virtual, number) for number, layer in enumerate(layers)})
    known = type(table)

    class WithVirtual(known):  # type: ignore[misc, valid-type]
        """The table with rows behind its last one; parameters, names and what is saved stay as they are."""

        def forward(self, input: Tensor) -> Tensor:
            """(..., T) -> (..., T, width)."""
            found: Tensor = super().forward(input.clamp(max=virtual.first - 1))
            if virtual.off or virtual.shape is not None:
                return found
            place = (input - virtual.first).clamp(min=0, max=len(virtual.weight) - 1)
            learnt = F.embedding(place, virtual.weight).to(found.dtype)
            return torch.where((input >= virtual.first).unsqueeze(-1), learnt, found)

    table.__class__ = WithVirtual
    return virtual


def attention_layers(whole: Any) -> list[nn.Module]:
    """The modules that attend, one a layer, in order.

    Raises:
        ModelError: there is not one for each layer of the config.
    """
    found = {
        module.layer_idx: module
        for module in whole.modules()
        if "Attention" in type(module).__name__ and isinstance(getattr(module, "layer_idx", None), int)
    }
    count = whole.config.get_text_config().num_hidden_layers
    if sorted(found) != list(range(count)):
        raise ModelError(
            f"adapter=prefix: {type(whole).__name__} does not number its attention layers, so that keys and "
            f"values cannot be given to them: take adapter=prompt, or adapter=lora"
        )
    return [found[number] for number in range(count)]


def with_prefix(
    module: nn.Module, ids_T: Tensor, key_GTD: Tensor, value_GTD: Tensor
) -> tuple[Tensor, Tensor]:
    """A layer's keys and values, those of virtual tokens replaced by the learnt ones."""
    virtual, layer = _of_layers.get(module, (None, 0))
    if virtual is None or virtual.off:
        return key_GTD, value_GTD
    is_virtual_T1 = (ids_T >= virtual.first).unsqueeze(-1)
    place_T = (ids_T - virtual.first).clamp(min=0, max=len(virtual.weight) - 1)
    key_GPD, value_GPD = virtual.held(layer)
    return (
        torch.where(is_virtual_T1, key_GPD[:, place_T].to(key_GTD.dtype), key_GTD),
        torch.where(is_virtual_T1, value_GPD[:, place_T].to(value_GTD.dtype), value_GTD),
    )
