"""Ratios of totals: nats a token, nats a byte. Numpy and the standard library only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import Clusters, bootstrap_t, finite, studentised_sums
from align.types import Result

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import ArrayLike


def ratio(
    metric: str, amounts: ArrayLike, sizes: ArrayLike, clusters: Clusters = None, seed: int = 0
) -> Result:
    """Sum of amounts over sum of sizes, with the bootstrap-t interval of a ratio; clusters are the units.

    A text of ten tokens counts ten times what one of one does. Without an interval for a single unit.

    Raises:
        DataError: no values, not as many amounts as sizes, or a size that is not above 0.
        NonFiniteError: a value is NaN or infinite.
    """
    amount, size = finite(amounts, f"{metric} (amounts)"), finite(sizes, f"{metric} (sizes)")
    if len(amount) != len(size):
        raise DataError(f"{metric}: {len(amount)} amounts, but {len(size)} sizes")
    if size.min() <= 0:
        raise DataError(f"{metric}: sizes lie above 0, got {size.min():g}")
    keys: list[Hashable] = list(range(len(amount))) if clusters is None else list(clusters)
    if len(keys) != len(amount):
        raise DataError(f"{metric}: {len(amount)} amounts, but {len(keys)} keys of clusters")
    totals: dict[Hashable, list[tuple[float, float]]] = {}
    for key, one, other in zip(keys, amount.tolist(), size.tolist(), strict=True):
        totals.setdefault(key, []).append((one, other))
    # sorted, and summed exactly, so that no order of the values shows
    table = sorted((math.fsum(a for a, _ in own), math.fsum(s for _, s in own)) for own in totals.values())
    value = math.fsum(amount) / math.fsum(size)
    if len(table) < 2:
        return Result(metric, value, len(table), None, None, "exact")
    sums, counts = (np.array(column, dtype=np.float64) for column in zip(*table, strict=True))
    interval = bootstrap_t(studentised_sums(sums, counts, float(np.abs(amount / size).max()), seed))
    method = "bootstrap" if clusters is None else "clustered bootstrap"
    return Result(metric, value, len(table), min(interval.low, value), max(interval.high, value), method)
