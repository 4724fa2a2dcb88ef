"""Which items make a batch: a seeded permutation an epoch, as a pure function of (seed, position).

Policy: the epochs' permutations are laid end to end and cut into batches, so that every batch is full, every
item is seen exactly once an epoch, and a batch may span two epochs (or more, if it is larger than the data).
Nothing is stored: a resumed run asks for the same positions and gets the same items.
"""

from __future__ import annotations

import functools
import math
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


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> list[int]:
    """Indices (batch_size,) of the items of a step (1-based)."""
    first = (step - 1) * batch_size
    places = (divmod(position, count) for position in range(first, first + batch_size))
    return [int(permutation(seed, epoch, count)[place]) for epoch, place in places]


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
