"""Weighted means of independent results, with an interval. The standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from align.errors import DataError
from align.types import Result


def weighted(metric: str, parts: Sequence[Result], weights: Sequence[float]) -> Result:
    """Mean of results on separate data, by weight; the interval recovers each part's variance from its own.

    With weights W that sum to 1, low = value - sqrt(sum W^2 (value_i - low_i)^2), and high likewise (Zou and
    Donner 2008, "Construction of confidence limits about effect measures", MOVER): it keeps the parts'
    skewness, and a width where every part is all right or all wrong. ``n`` is the sum of theirs. Without an
    interval where a part has none.

    Raises:
        DataError: no parts, not as many weights, or weights that are negative or sum to nothing.
    """
    if not parts or len(parts) != len(weights) or min(weights) < 0 or sum(weights) <= 0:
        raise DataError(f"{metric}: takes as many weights as parts, got {list(weights)} for {len(parts)}")
    shares = [weight / math.fsum(weights) for weight in weights]
    value = math.fsum(share * part.value for share, part in zip(shares, parts, strict=True))
    n = sum(part.n for part in parts)
    below = above = 0.0
    for share, part in zip(shares, parts, strict=True):
        if part.ci_low is None or part.ci_high is None:
            return Result(metric, value, n, None, None, "exact")
        below += (share * (part.value - part.ci_low)) ** 2
        above += (share * (part.ci_high - part.value)) ** 2
    return Result(metric, value, n, value - math.sqrt(below), value + math.sqrt(above), "mover")
