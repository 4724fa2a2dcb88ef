"""Best of n: what it gains and how far it moves, in closed form and from a pool of scored replies.

Of n replies to a prompt the one with the highest score is kept. Legend: P replies in a prompt's pool, all
drawn from the base policy. Standard library and numpy only; KL is in nats.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def best_of_n_kl(n: int) -> float:
    """KL(best of n || base) = log n - (n - 1)/n (Stiennon et al. 2020, appendix G.3).

    Exact where no two replies score alike, an upper bound otherwise (Beirami et al. 2024, theorem 1).
    """
    _at_least_one(n)
    return math.log(n) - (n - 1) / n


def best_of_n_win_rate(n: int) -> float:
    """Probability n/(n + 1) that the best of n scores above one more reply, ties counted half.

    Of n + 1 replies each is as likely as any other to be the highest.
    """
    _at_least_one(n)
    return n / (n + 1)


def chances(scores: ArrayLike, n: int) -> NDArray[np.float64]:
    """Probability (P,) that each reply of a pool is the best of n drawn from it without replacement.

    C(i - 1, n - 1) / C(P, n) for the i-th lowest score (Nakano et al. 2021, appendix I); replies that
    score alike share what falls to their ranks, as if a tie were broken by a coin.

    Raises:
        DataError: no scores, or n beyond the pool.
        NonFiniteError: a score is NaN or infinite.
    """
    pool = finite(scores, "best of n")
    _at_least_one(n)
    if n > len(pool):
        raise DataError(f"best of {n} takes {n} replies a prompt at least, the pool has {len(pool)}")
    # C(i-1, n-1)/C(P, n) from the top down: n/P for i = P, then each from the one above by (i - n)/(i - 1)
    by_rank = np.empty(len(pool))
    chance = n / len(pool)
    for rank in range(len(pool), 0, -1):
        by_rank[rank - 1] = chance
        chance *= max(rank - n, 0) / (rank - 1) if rank > 1 else 0.0
    _, group, sizes = np.unique(pool, return_inverse=True, return_counts=True)
    shares = np.add.reduceat(by_rank, np.cumsum(sizes) - sizes) / sizes
    return shares[group]


def expected_best(scores: ArrayLike, n: int, values: ArrayLike | None = None) -> float:
    """Mean score of the best of n, estimated without bias from a pool of P >= n replies to one prompt.

    ``values`` (P,) takes the mean of another number of the reply that ``scores`` (P,) picks: the gold reward
    where the scores are a proxy's (Gao et al. 2022).

    Raises:
        DataError: as ``chances``, or not as many values as scores.
        NonFiniteError: a score or value is NaN or infinite.
    """
    weights = chances(scores, n)
    picked = finite(scores if values is None else values, "best of n")
    if len(picked) != len(weights):
        raise DataError(f"best of n: {len(weights)} scores, but {len(picked)} values")
    return math.fsum(weights * picked)


def pool_kl(scores: ArrayLike, n: int) -> float:
    """KL(best of n || base) of a base policy that gives each reply of the pool the same probability.

    Exact: the sum over scores of p log(p / q), with q a score's share of the pool and p what n independent
    draws make of it, F^n - F_below^n. Distinct scores give ``best_of_n_kl`` to 1e-4 while n is under 3 % of
    the pool; ties give less, scores that are all alike 0.

    Raises:
        DataError: no scores, or n below 1.
        NonFiniteError: a score is NaN or infinite.
    """
    pool = finite(scores, "best of n")
    _at_least_one(n)
    _, sizes = np.unique(pool, return_counts=True)
    shares = sizes / len(pool)
    kept = np.diff(np.append(0.0, np.cumsum(sizes) / len(pool)) ** n)
    drawn = kept > 0  # far below the top, F^n underflows
    return math.fsum(kept[drawn] * np.log(kept[drawn] / shares[drawn]))


def _at_least_one(n: int) -> None:
    if n < 1:
        raise DataError(f"best of n takes one reply at least, got n={n}")
