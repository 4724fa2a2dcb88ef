"""Models of a run as tensors with shapes and no bytes, and the passes that its training makes of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from align.distributed.device import autocast
from align.models.adapters import with_adapter
from align.models.build import Origin, quiet, scratch_config
from align.models.logprobs import token_logps
from align.models.products import quicken
from align.models.scalar import LastTokenScores
from align.models.settings import AdapterSettings, ModelSettings
from align.models.source import find_model, read_config
from align.packing.attention import set_attention
from align.packing.forward import Packed, transformers_model
from align.packing.head import head_of
from align.packing.layout import ReplyGroup
from align.packing.probe import CannotPack, promised_windows, refuse_by_shape
from align.packing.work import cost_of
from align.plan.live import Live
from align.tensors import TokenLogps


@dataclass(frozen=True)
class Words:
    """As much of a tokenizer as a config from scratch asks for."""

    count: int
    bos_token_id: int = 0
    eos_token_id: int = 1
    pad_token_id: int = 2

    def __len__(self) -> int:
        return self.count


class Asked(Protocol):
    """As much of a ``Forward`` as a plan asks."""

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps: ...

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor: ...


@dataclass(frozen=True)
class Rows:
    """A padded pass: ``Padded`` itself looks at numbers, which are not there. All rows are of one length."""

    model: Any
    dtype: torch.dtype

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        """As ``Padded.logps``."""
        ids_BT, reply = self._rows(groups), len(groups[0].replies[0])
        whole = transformers_model(self.model)
        with autocast(whole.device, self.dtype):
            logits_BTV = whole(input_ids=ids_BT, use_cache=False, logits_to_keep=reply + 1).logits
            logps_BT = token_logps(logits_BTV[:, :-1], ids_BT[:, -reply:], temperature)
        return TokenLogps(logps_BT, ids_BT[:, -reply:] >= 0)

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """As ``Padded.scores``."""
        ids_BT = self._rows(groups)
        with autocast(ids_BT.device, self.dtype):
            scores: Tensor = self.model(ids_BT, torch.ones_like(ids_BT))
        return scores

    def _rows(self, groups: Sequence[ReplyGroup]) -> Tensor:
        one, device = groups[0], transformers_model(self.model).device
        length = len(one.prompt_ids) + len(one.replies[0])
        return torch.full((len(groups) * len(one.replies), length), 3, dtype=torch.int64, device=device)


@contextmanager
def without_bytes() -> Iterator[Live]:
    """Inside, tensors have shapes and no bytes; the result counts those that they would have."""
    with FakeTensorMode(allow_non_fake_inputs=True), Live() as live:
        yield live
    gc.collect()


def config_of(model: ModelSettings, room: int = 0) -> PreTrainedConfig:
    """The architecture, from the checkpoint's config alone.

    Raises:
        ModelError: nothing at ``model.path``.
    """
    if model.path is not None:
        return read_config(find_model(model.path))
    assert model.scratch is not None, "settings have refused it"
    words: Any = Words(model.scratch.vocab_size)
    return scratch_config(model.scratch, words, model.max_length + room)


def made(
    config: PreTrainedConfig, adapter: AdapterSettings, max_length: int, *, scores: bool, device: str
) -> Any:
    """A policy's or a scalar model's ``model``, in training mode; to be called inside ``without_bytes``."""
    auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    if scores:
        config.num_labels = 1
    # libraries move what they make to where the model is, which fake tensors do not let them
    with quiet(), _disable_current_modes(), torch.device("meta"):
        base = auto.from_config(config, dtype=torch.float32)
        quicken(base)
        words: Any = Words(config.get_text_config().vocab_size)
        task = "SEQ_CLS" if scores else "CAUSAL_LM"
        whole = with_adapter(base, Origin(config, words, None, max_length), adapter, task, seed=0)
    _moved(whole, device)
    return LastTokenScores(whole).train() if scores else whole.train()


def _moved(whole: nn.Module, device: str) -> None:
    """Puts fresh tensors on a device in place of those without one; what was tied stays so."""
    fresh: dict[int, Tensor] = {}
    for module in whole.modules():
        both: list[dict[str, Any]] = [module._parameters, module._buffers]
        for held in both:
            for name, old in held.items():
                if old is None:
                    continue
                if id(old) not in fresh:
                    new = torch.empty(old.shape, dtype=old.dtype, device=device)
                    fresh[id(old)] = (
                        nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                    )
                held[name] = fresh[id(old)]


def forward_of(model: Any, dtype: torch.dtype, *, padded: bool) -> Asked:
    """How training asks the model: packed where its shape allows it. Its numbers are not looked at here."""
    whole, scores = transformers_model(model), isinstance(model, LastTokenScores)
    windows = promised_windows(whole)
    head = getattr(whole, "score", None) if scores else whole.get_output_embeddings()
    cost = cost_of(whole, head, windows, scores=scores)
    try:
        if padded:
            raise CannotPack("as asked for")
        refuse_by_shape(model, whole)
        with quiet():
            set_attention(whole, "segments")
    except (CannotPack, ValueError, KeyError):
        return Rows(model, dtype)
    return Packed(model, None if scores else head_of(whole), cost, dtype)


def groups_of(count: int, prompt: int, replies: int, length: int) -> list[ReplyGroup]:
    """Made-up prompts with as many replies each; lengths in tokens."""

    def ids(tokens: int) -> Any:
        return np.full(max(1, tokens), 3, dtype=np.int32)

    return [ReplyGroup(ids(prompt), tuple(ids(length) for _ in range(replies))) for _ in range(count)]


def passing(
    live: Live, losses: Callable[[], Sequence[Tensor]], passes: int, models: Sequence[nn.Module]
) -> int:
    """The most that a step's passes take, forward and back, over what is alive before; gradients are left out
    afterwards."""
    with live.peak_of() as peak:
        for _ in range(min(passes, 2)):  # from the second one on, gradients are there
            whole = torch.stack([loss.float().sum() for loss in losses()]).sum()
            whole.backward()  # type: ignore[no-untyped-call]
            del whole
    for model in models:
        model.zero_grad(set_to_none=True)
    gc.collect()
    return peak[0]


def bytes_of(tensors: Iterator[Tensor]) -> int:
    """Of each tensor once."""
    return sum({id(one): one.nbytes for one in tensors}.values())
