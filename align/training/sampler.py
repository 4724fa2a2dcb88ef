"""Which items make a batch: a seeded permutation an epoch, as a pure function of (seed, position).

Policy: the epochs' permutations are laid end to end and cut into batches, so that every batch is full, every
item is seen exactly once an epoch, and a batch may span two epochs (or more, if it is larger than the data).
Nothing is stored: a resumed run asks for the same positions and gets the same items.

Items of like length share a batch where lengths are known: within a window of batches the shuffled items
are sorted by length and cut, and the batches are shuffled again. A batch keeps its size and each item its
one turn an epoch; what it saves is padding.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError


@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order (count,) of the items in one epoch. Two are kept: a batch may span two epochs."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order.setflags(write=False)
    return order


@dataclass(frozen=True, eq=False)
class Sampler:
    """What decides the items of every step. ``lengths`` (count,) are in tokens; None groups nothing.

    Where it does not shuffle, items come in their own order every epoch, whatever their lengths.
    """

    seed: int
    batch_size: int
    count: int
    window: int = 1
    """Batches within which items are grouped by length; 1 groups nothing."""
    lengths: NDArray[np.int64] | None = None
    shuffle: bool = True

    def batch(self, step: int) -> list[int]:
        """Indices (batch_size,) of the items of a step (1-based)."""
        first = (step - 1) * self.batch_size
        places = (divmod(position, self.count) for position in range(first, first + self.batch_size))
        return [int(_order(self, epoch)[place]) for epoch, place in places]

    def drawn(self, steps: int) -> list[int]:
        """Indices, each once and in their order, of the items of the first ``steps`` steps."""
        if steps * self.batch_size >= self.count:
            return list(range(self.count))
        return sorted({index for step in range(1, steps + 1) for index in self.batch(step)})


@functools.lru_cache(maxsize=2)
def _order(sampler: Sampler, epoch: int) -> NDArray[np.int64]:
    """The epoch's permutation, grouped by length within windows that start where a batch starts."""
    if not sampler.shuffle:
        return np.arange(sampler.count)
    order = permutation(sampler.seed, epoch, sampler.count)
    if sampler.lengths is None or sampler.window == 1:
        return order
    order = order.copy()
    rng = np.random.default_rng((sampler.seed, epoch, sampler.window))
    size = sampler.batch_size
    head = -epoch * sampler.count % size  # what the last batch of the epoch before takes of this one
    for start in range(head, sampler.count, sampler.window * size):
        window = order[start : start + sampler.window * size]
        window = window[np.argsort(sampler.lengths[window], kind="stable")]
        whole = len(window) // size
        batches = [window[size * place : size * (place + 1)] for place in rng.permutation(whole)]
        order[start : start + len(window)] = np.concatenate([*batches, window[size * whole :]])
    return order


def total_steps(max_steps: int | None, epochs: float, batch_size: int, count: int) -> int:
    """Optimiser steps of a run: ``max_steps``, or ceil(epochs * count / batch_size) in exact arithmetic.

    Raises:
        DataError: there is no item to train on.
    """
    if count == 0:
        raise DataError("there is nothing to train on: the training split is empty")
    if max_steps is not None:
        return max_steps
    # As typed: 0.1 epochs are a tenth, where the float 0.1 * 30 is above 3 and would cost a step.
    return math.ceil(Fraction(repr(epochs)) * count / batch_size)


def ends_epoch(step: int, batch_size: int, count: int) -> bool:
    """Whether a step (1-based) sees the last item of an epoch."""
    return step * batch_size // count > (step - 1) * batch_size // count
