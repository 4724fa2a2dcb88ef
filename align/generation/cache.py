"""Keys and values of the rows that are being written, in memory that is taken once and moved seldom.

All rows write the same slot in a step: a prompt lies so that its last token is in the step's slot, and rows
of unlike length begin at unlike slots. So a step's keys go in as one slice, a sliding window is a slice, and
rows of like length need no mask. The rows alive are the first ones, without gaps. Torch and numpy only.
Legend: N rows, G key-value heads, S slots, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SLACK = 64
"""Slots that are taken ahead at least, or a quarter of those in use: as many steps pass between moves."""
RECORDED = 256
"""The same where each move costs the recording of a step."""


@dataclass(eq=False)
class Cache:
    """The memory, and which part of it is in use."""

    rows: int
    """Rows that there is memory for."""
    ahead: int
    """Tokens that follow a prompt, at most: no more slots are taken ahead."""
    whole_steps: bool = False
    """Whether steps read all memory (``fixed``): it is then never without a number, and moves seldom."""
    moves: int = 0
    """How often other memory was taken."""
    slots: int = 0
    slot: int = 0
    """Where the next step's keys go."""
    starts_N: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The first slot of each row alive."""
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values (N, G, S, D) by layer, taken when a layer first asks."""

    @property
    def alive(self) -> int:
        """Rows in use."""
        return len(self.starts_N)

    @property
    def low(self) -> int:
        """The first slot that is in use."""
        return int(self.starts_N.min()) if self.alive else self.slot

    def layer(self, number: int, key_GTD: Tensor, value_GTD: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values; the arguments are what it writes in this step, and say their shapes."""
        if number not in self.layers:
            keys, values = (
                self._taken(like, (self.rows, like.shape[0], self.slots, like.shape[2]))
                for like in (key_GTD, value_GTD)
            )
            self.layers[number] = (keys, values)
        return self.layers[number]

    def make_room(self, longest: int) -> None:
        """So that the coming step has a slot, and a prompt of ``longest`` tokens can end in it."""
        if not longest - 1 <= self.slot < self.slots:
            self._move(slice(self.alive), longest)

    def enter(self, lengths_N: NDArray[np.int64]) -> None:
        """Rows whose prompts end in the coming step's slot."""
        self.starts_N = np.concatenate((self.starts_N, self.slot + 1 - lengths_N))

    def leave(self, gone_N: NDArray[np.bool_], *, for_good: bool) -> NDArray[np.int64]:
        """Takes rows out, and moves the last ones into the gaps; returns which row each one was before.

        ``for_good``, where nobody follows, gives memory back once half of it is not needed any more.
        """
        count = int((~gone_N).sum())
        gaps = np.flatnonzero(gone_N[:count])
        order_N = np.arange(count)
        order_N[gaps] = count + np.flatnonzero(~gone_N[count:])
        self.starts_N = self.starts_N[order_N]
        if for_good and count <= self.rows // 2 and not self.whole_steps:
            self.rows = count
            self._move(torch.from_numpy(order_N), longest=0)
        elif len(gaps):
            used = slice(int(self.starts_N[gaps].min()), self.slot)
            to, source = torch.from_numpy(gaps), torch.from_numpy(order_N[gaps])
            for held_NGSD in (one for pair in self.layers.values() for one in pair):
                place = held_NGSD.device
                held_NGSD[to.to(place), :, used] = held_NGSD[source.to(place), :, used]
        return order_N

    def _move(self, order_N: slice | Tensor, longest: int) -> None:
        """Into new memory, a layer at a time, without the slots before the first one in use."""
        low, used = self.low, self.slot - self.low
        slot = max(used, longest - 1)
        slots = slot + min(self.ahead, max(RECORDED if self.whole_steps else SLACK, slot // 4))
        self.moves += 1

        def moved(held: Tensor) -> Tensor:
            order = order_N.to(held.device) if isinstance(order_N, Tensor) else order_N
            new = self._taken(held, (self.rows, held.shape[1], slots, held.shape[3]))
            new[: self.alive, :, : slot - used] = 0  # see ``decoder._prompts``
            new[: self.alive, :, slot - used : slot] = held[order, :, low : self.slot]
            return new

        for number, (keys, values) in self.layers.items():
            self.layers[number] = (moved(keys), moved(values))
        self.starts_N = self.starts_N + (slot - self.slot)
        self.slot, self.slots = slot, slots

    def _taken(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        return like.new_zeros(shape) if self.whole_steps else like.new_empty(shape)
