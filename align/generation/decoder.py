"""One step for all rows: each row alive reads its newest token, newcomers their prompts, in one packed row.

Attention is exchanged as for training (``align.packing.attention``): the step travels down to the layers as
a keyword argument, and its keys and values go into the cache. Legend: N rows alive, H heads, G key-value
heads, T tokens of the step, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from align.generation import fixed
from align.generation.cache import Cache
from align.generation.fixed import Places, Steps
from align.models.build import quiet
from align.models.virtual import with_prefix
from align.packing.mask import behind_prompt
from align.packing.segments import Rule, plain_attention

NAME = "align_decode"
TokenIds = NDArray[np.int32]
Held = tuple[Tensor, Tensor]


MOST = 16384
PASS = {"cpu": 1024}
"""Tokens of prompts that one pass reads, at most, by the type of device (``MOST`` on the others): enough for
full speed, few enough that what the layers make of them stays small, and in a processor's cache."""


@dataclass(frozen=True)
class Run:
    """Prompts of one length that enter together, each read once however many rows begin with it."""

    prompts: tuple[TokenIds, ...]
    length: int
    rows: slice
    """The rows that begin with them."""
    prompt_of_row: NDArray[np.int64]
    """Which of the prompts each of those rows begins with."""


@dataclass(frozen=True, eq=False)
class Step:
    """What attention needs to know of a pass. Its first tokens are those of the ``older`` rows, one each."""

    cache: Cache
    ids_T: Tensor
    older: int
    low: int
    """The first slot that an older row looks at."""
    runs: tuple[Run, ...]
    windows: dict[int, int | None]
    """How far back each layer looks, filled by the layers."""
    made: dict[object, Tensor] = field(default_factory=dict)
    """Masks, kept for the other layers."""
    places: Places | None = None
    """Where a step of fixed shapes reads the rest from; it has no runs."""


class Decoder:
    """A transformers causal model that writes rows token by token; to be used inside ``attending``."""

    def __init__(self, whole: Any, rows: int, ahead: int) -> None:
        """See ``Cache`` for ``rows`` and ``ahead``."""
        self._backbone = getattr(whole, whole.base_model_prefix)
        self._device = whole.device
        record = fixed.RECORD.get(self._device.type)
        self._steps = Steps(self._whole_step, record) if record is not None else None
        self.cache = Cache(rows, ahead, whole_steps=record is not None)
        self.read_N: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        """Tokens that each row alive has read."""
        self.computed = 0
        """Tokens that went through the model."""
        self.windows: dict[int, int | None] = {}
        """How far back each layer looks, in the layers' order; filled by the first step."""

    @property
    def records(self) -> bool:
        """Whether steps without newcomers are recorded."""
        return self._steps is not None and self._steps.refusal is None

    def step(self, tokens_N: Tensor, prompts: Sequence[TokenIds]) -> Tensor:
        """Last hidden states (N, width): of each row alive after its token, then of the newcomers' prompts.

        Newcomers become the last rows. Like prompts beside each other are read once. Many prompts take
        several passes, which all end in one slot.
        """
        older = len(self.read_N)
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        self.cache.make_room(int(lengths.max(initial=0)))
        low = self.cache.low
        self.cache.enter(lengths)
        found: list[Tensor] = []
        if older and self._steps is not None and self.records:
            recorded = self._steps.take(tokens_N, self.read_N, self.cache)
            found += [recorded] if recorded is not None else []
            self.computed += older * len(found)
        for runs in _passes(prompts, older, PASS.get(self._device.type, MOST)):
            first = not found and older > 0
            found.append(self._pass(tokens_N if first else None, low, runs))
        if not found:
            found.append(self._pass(tokens_N, low, ()))
        self.cache.slot += 1
        self.read_N = np.concatenate((self.read_N + 1, lengths))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _pass(self, tokens_N: Tensor | None, low: int, runs: Sequence[Run]) -> Tensor:
        older = 0 if tokens_N is None else len(tokens_N)
        ids = [] if tokens_N is None else [tokens_N]
        positions = [self.read_N[:older]]
        last = [np.arange(older)]
        at = older
        for run in runs:
            ids.append(torch.from_numpy(np.concatenate(run.prompts).astype(np.int64)).to(self._device))
            positions += [np.arange(run.length)] * len(run.prompts)
            last.append(at + (run.prompt_of_row + 1) * run.length - 1)
            at += len(run.prompts) * run.length
        ids_T = torch.cat(ids)
        step = Step(self.cache, ids_T, older, low, tuple(runs), self.windows)
        hidden_TH: Tensor = self._backbone(
            input_ids=ids_T.unsqueeze(0),
            position_ids=torch.from_numpy(np.concatenate(positions)).unsqueeze(0).to(self._device),
            # four dimensions pass through as they are, so that no mask is made
            attention_mask=ids_T.new_ones((1, 1, 1, 1)),
            use_cache=False,
            decoding=step,
        ).last_hidden_state[0]
        self.computed += at
        if not runs:
            return hidden_TH
        return hidden_TH.index_select(0, torch.from_numpy(np.concatenate(last)).to(self._device))

    def _whole_step(self, places: Places) -> Tensor:
        """A pass over one token of each row that there is memory for; see ``fixed``."""
        step = Step(self.cache, places.ids_N, len(places.ids_N), 0, (), self.windows, places=places)
        hidden_TH: Tensor = self._backbone(
            input_ids=places.ids_N.unsqueeze(0),
            position_ids=places.positions_N.unsqueeze(0),
            attention_mask=places.ids_N.new_ones((1, 1, 1, 1)),
            use_cache=False,
            decoding=step,
        ).last_hidden_state[0]
        return hidden_TH

    def leave(self, gone_N: NDArray[np.bool_], *, for_good: bool) -> NDArray[np.int64]:
        """See ``Cache.leave``."""
        order_N = self.cache.leave(gone_N, for_good=for_good)
        self.read_N = self.read_N[order_N]
        return order_N


def _passes(prompts: Sequence[TokenIds], older: int, most: int) -> list[list[Run]]:
    """Newcomers' prompts as runs, and the runs in passes of at most so many tokens, or of one prompt."""
    passes: list[list[Run]] = []
    tokens, row = most, 0
    while row < len(prompts):
        length, begin = len(prompts[row]), row
        room = max(1, (most - tokens) // length)
        if tokens + length > most:
            passes.append([])
            tokens, room = 0, max(1, most // length)
        fresh: list[TokenIds] = []
        sources: list[int] = []
        while row < len(prompts) and len(prompts[row]) == length:
            if not fresh or not np.array_equal(prompts[row], fresh[-1]):
                if len(fresh) == room:
                    break
                fresh.append(prompts[row])
            sources.append(len(fresh) - 1)
            row += 1
        passes[-1].append(Run(tuple(fresh), length, slice(older + begin, older + row), np.array(sources)))
        tokens += len(fresh) * length
    return passes


@contextmanager
def attending(whole: Any) -> Iterator[None]:
    """The model attends through steps inside, and as it did before afterwards.

    Raises:
        ValueError, KeyError: the architecture's attention cannot be exchanged.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    before = whole.config._attn_implementation
    try:
        with quiet():
            whole.set_attn_implementation(NAME)
        if whole.config._attn_implementation != NAME:
            raise ValueError(f"its attention stays {before}")
        yield
    finally:
        with quiet():
            whole.set_attn_implementation(before)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # see ``align.packing.attention``
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    decoding: Step,
    **others: Any,
) -> tuple[Tensor, None]:
    """One layer's attention: (1, H, T, D) -> (1, T, H, D), as transformers wants it."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    rule = Rule(scale, 0.0, sliding_window, softcap)
    decoding.windows[id(module)] = rule.window
    query_HTD, key_GTD, value_GTD = query[0], key[0], value[0]
    if decoding.runs:  # only prompts have virtual tokens before them
        key_GTD, value_GTD = with_prefix(module, decoding.ids_T, key_GTD, value_GTD)
    held = decoding.cache.layer(id(module), key_GTD, value_GTD)
    if decoding.places is not None:
        out_THD = fixed.attention(query_HTD, key_GTD, value_GTD, held, decoding.places, decoding.made, rule)
        return out_THD.unsqueeze(0), None
    found, at = [], decoding.older
    if at:
        found.append(_older(query_HTD[:, :at], key_GTD[:, :at], value_GTD[:, :at], held, decoding, rule))
    for run in decoding.runs:
        own = slice(at, at + len(run.prompts) * run.length)
        found.append(
            _prompts(query_HTD[:, own], key_GTD[:, own], value_GTD[:, own], held, decoding, run, rule)
        )
        at = own.stop
    out_THD = found[0] if len(found) == 1 else torch.cat(found)
    return out_THD.unsqueeze(0), None


def _older(query: Tensor, key: Tensor, value: Tensor, held: Held, step: Step, rule: Rule) -> Tensor:
    """Attention (N, H, D) of one token a row over its slots, after writing its own."""
    (keys, values), count, slot = held, step.older, step.cache.slot
    keys[:count, :, slot] = key.transpose(0, 1)
    values[:count, :, slot] = value.transpose(0, 1)
    low = step.low if rule.window is None else max(step.low, slot + 1 - rule.window)
    used_keys = keys[:count, :, low : slot + 1].flatten(0, 1)
    used_values = values[:count, :, low : slot + 1].flatten(0, 1)
    # heads that share keys stand as the queries of one product
    queries = (query.transpose(0, 1) * rule.scale).reshape(len(used_keys), -1, query.shape[-1])
    scores = torch.bmm(queries, used_keys.transpose(1, 2))
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    mask = _begins(step, low, scores)
    if mask is not None:
        scores.view(count, -1, scores.shape[-1]).add_(mask)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=wide).to(values.dtype)
    return torch.bmm(weights, used_values).view(count, query.shape[0], -1)


def _begins(step: Step, low: int, scores: Tensor) -> Tensor | None:
    """Additive mask (N, 1, slots from ``low`` on) of what lies before a row's beginning; None if nothing."""
    starts = step.cache.starts_N[: step.older]
    if int(starts.max()) <= low:
        return None
    if low not in step.made:
        slots = torch.arange(low, step.cache.slot + 1, device=scores.device)
        before = slots < torch.from_numpy(starts).to(scores.device).unsqueeze(-1)
        mask = torch.zeros(before.shape, dtype=scores.dtype, device=scores.device)
        step.made[low] = mask.masked_fill_(before, float("-inf")).unsqueeze(1)
    return step.made[low]


def _prompts(
    query: Tensor, key: Tensor, value: Tensor, held: Held, step: Step, run: Run, rule: Rule
) -> Tensor:
    """Attention (T, H, D) within each prompt of a run, after writing its keys to the rows that begin so."""
    query, key, value = (
        one.reshape(len(one), len(run.prompts), run.length, -1).transpose(0, 1) for one in (query, key, value)
    )
    slots = slice(step.cache.slot + 1 - run.length, step.cache.slot + 1)
    for memory, own in zip(held, (key, value), strict=True):
        # a mask does not hide the NaN that memory may hold before anything is written there
        memory[run.rows, :, : slots.start] = 0
        shared = len(run.prompts) < len(run.prompt_of_row)
        memory[run.rows, :, slots] = (
            own[torch.from_numpy(run.prompt_of_row).to(own.device)] if shared else own
        )
    window = rule.window if rule.window is not None and rule.window < run.length else None
    mask = None if window is None and rule.softcap is None else _within(step, run.length, window, query)
    if rule.softcap is None:
        out = F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=rule.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
    else:
        assert mask is not None
        repeats = query.shape[1] // key.shape[1]
        several_keys, several_values = (
            one.repeat_interleave(repeats, 1).flatten(0, 1) for one in (key, value)
        )
        out = plain_attention(query.flatten(0, 1), several_keys, several_values, mask, rule).view(query.shape)
    return out.transpose(1, 2).flatten(0, 1)


def _within(step: Step, length: int, window: int | None, query: Tensor) -> Tensor:
    """(1, length, length), to be added."""
    name = (length, window)
    if name not in step.made:
        mask = behind_prompt(0, length, window, dtype=query.dtype, device=query.device)
        step.made[name] = mask.unsqueeze(0)
    return step.made[name]
