"""A step of decoding whose shapes stay: on CUDA it is recorded once and started as a whole.

A step of a small batch is hundreds of kernels of a few microseconds each, and a processor takes longer to
start them one by one than the device to do them. A CUDA graph is started by one call, but always reads and
writes the same memory: so all rows that there is memory for take part, alive or not, over all slots, and what
changes from step to step (tokens, positions, the slot, where rows begin) is read from the device.
Legend as in ``decoder``; S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.generation.cache import Cache
from align.packing.segments import Rule
from align.report.console import say

Pass = Callable[["Places"], Tensor]
"""The model's pass over one token a row: last hidden states (N, width)."""
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Makes a function whose calls repeat those kernels, and give the same memory filled anew."""


@dataclass(frozen=True, eq=False)
class Places:
    """What a step reads from the device."""

    ids_N: Tensor
    """The tokens that rows read (int64); of rows that are not alive, any."""
    positions_N: Tensor
    slot_1: Tensor
    """Where all rows write their keys."""
    starts_N: Tensor
    """The first slot of each row."""


class Steps:
    """The steps of a decoder, recorded anew where its cache has taken other memory."""

    def __init__(self, run: Pass, record: Record) -> None:
        self._run, self._record = run, record
        self._repeat: Callable[[], Tensor] | None = None
        self._moves = -1
        self._places: Places | None = None
        self.refusal: str | None = None
        """Why a step could not be recorded; None where it can, or was not tried."""

    def take(self, tokens_N: Tensor, read_N: NDArray[np.int64], cache: Cache) -> Tensor | None:
        """Last hidden states (N, width) of the first rows after their tokens; None if none can be recorded.

        Rows that enter in this step come behind them: what is written to their memory here is overwritten.

        Args:
            read_N: tokens that each of these rows has read.
        """
        places = self._filled(tokens_N, read_N, cache)
        if self._repeat is None or self._moves != cache.moves:
            try:
                self._repeat = self._record(lambda: self._run(places))
            except RuntimeError as error:  # the model waits for the device, or does what a graph cannot hold
                self.refusal = (str(error).splitlines() or [type(error).__name__])[0]
                say(
                    f"note: a step of the model cannot be recorded as a CUDA graph ({self.refusal}): its "
                    f"kernels are started one by one, which is slower"
                )
                return None
            self._moves = cache.moves
        return self._repeat()[: len(tokens_N)].clone()

    def _filled(self, tokens_N: Tensor, read_N: NDArray[np.int64], cache: Cache) -> Places:
        rows, alive = cache.rows, len(tokens_N)
        if self._places is None or len(self._places.ids_N) != rows:
            fresh = tokens_N.new_zeros
            self._places, self._repeat = Places(fresh(rows), fresh(rows), fresh(1), fresh(rows)), None
        # one small copy a step; rows that are not alive look at what lies in their memory, and nobody at them
        told = np.zeros(2 * rows + 1, dtype=np.int64)
        told[:alive], told[rows : rows + alive], told[-1] = read_N, cache.starts_N[:alive], cache.slot
        there = torch.from_numpy(told).to(tokens_N.device)
        self._places.ids_N[:alive] = tokens_N
        self._places.positions_N.copy_(there[:rows])
        self._places.starts_N.copy_(there[rows:-1])
        self._places.slot_1.copy_(there[-1:])
        return self._places


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    held: tuple[Tensor, Tensor],
    places: Places,
    made: dict[object, Tensor],
    rule: Rule,
) -> Tensor:
    """Attention (N, H, D) of one token a row over all slots, after writing its own; queries (H, N, D)."""
    with _no_order_asked():
        for memory_NGSD, own in zip(held, (key, value), strict=True):
            memory_NGSD.index_copy_(2, places.slot_1, own.transpose(0, 1).unsqueeze(2))
    keys, values = (one.flatten(0, 1) for one in held)
    rows, width = query.shape[1], query.shape[-1]
    # heads that share keys stand as the queries of one product
    queries = (query.transpose(0, 1) * rule.scale).reshape(len(keys), -1, width)
    scores = torch.bmm(queries, keys.transpose(1, 2))
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    scores.view(rows, -1, scores.shape[-1]).add_(_hidden(places, scores, rule.window, made))
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=wide).to(values.dtype)
    return torch.bmm(weights, values).view(rows, query.shape[0], -1)


@contextmanager
def _no_order_asked() -> Iterator[None]:
    """Writing each place once needs no order; asked for one, torch sorts the places first."""
    asked, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warns)


def _hidden(places: Places, scores: Tensor, window: int | None, made: dict[object, Tensor]) -> Tensor:
    """(N, 1, S), to be added: what a row may not look at, kept for the other layers."""
    if window not in made:
        slots_S = torch.arange(scores.shape[-1], device=scores.device)
        first_N1 = places.starts_N.unsqueeze(-1)
        if window is not None:
            first_N1 = torch.maximum(first_N1, places.slot_1 + 1 - window)
        hidden_NS = (slots_S > places.slot_1) | (slots_S < first_N1)
        mask = torch.zeros(hidden_NS.shape, dtype=scores.dtype, device=scores.device)
        made[window] = mask.masked_fill_(hidden_NS, float("-inf")).unsqueeze(1)
    return made[window]


def graph(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``Record`` by a CUDA graph.

    Raises:
        RuntimeError: something that ``run`` does cannot be part of one.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()  # what libraries set up at their first call is no part of the recording
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded, stream=stream):
        out = run()

    def repeat() -> Tensor:
        recorded.replay()
        return out

    return repeat


RECORD: Mapping[str, Record] = {"cuda": graph}
"""How steps are recorded, by the type of device; on the others, starting kernels costs little."""
