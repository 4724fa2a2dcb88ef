"""Which of many are worth looking at: the extreme ones, or some that stand for all. Numpy only."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_WORD = re.compile(r"[^\W_]+")
_SIZE = 512
"""Length of a text's vector: of two words in a hundred thousand, about one pair in 512 shares a place."""


def smallest(values: Sequence[float], count: int) -> list[int]:
    """Places of the smallest values, the smallest first; of equals the first."""
    return sorted(range(len(values)), key=lambda place: (values[place], place))[:count]


def drawn(total: int, count: int, seed: int) -> list[int]:
    """``count`` of the places below ``total``, each set of them as likely as any other."""
    return Random(f"drawn {seed}").sample(range(total), min(count, total))


def text_vectors(texts: Sequence[str]) -> Array:
    """Texts as unit vectors (N, 512) of hashed word counts.

    A word weighs log(1 + its count) log((1 + N) / (1 + texts that hold it)). Its place and sign follow from
    its hash (Weinberger et al. 2009): two words that fall on one place add up to nothing on average. A text
    without words, or whose words all texts have, is the zero vector.
    """
    counts = [Counter(word.lower() for word in _WORD.findall(text)) for text in texts]
    spread = Counter(word for one in counts for word in one)
    places = {word: _place(word) for word in spread}
    vectors = np.zeros((len(texts), _SIZE))
    for row, one in enumerate(counts):
        for word, count in one.items():
            place, sign = places[word]
            weight = math.log1p(count) * math.log((1 + len(texts)) / (1 + spread[word]))
            vectors[row, place] += sign * weight
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[norms == 0] = 1.0
    units: Array = vectors / norms
    return units


def farthest_first(vectors_ND: Array, count: int, start: int) -> list[int]:
    """Places of ``count`` rows, each the farthest from all before it, beginning with ``start``.

    No choice of as many has less than half the radius that this one leaves (Gonzalez 1985). Of rows that are
    equally far the first is taken; a row is taken once.
    """
    chosen = [start]
    nearest_N = _distances(vectors_ND, start)
    while len(chosen) < min(count, len(vectors_ND)):
        nearest_N[chosen[-1]] = -1.0
        chosen.append(int(nearest_N.argmax()))
        nearest_N = np.minimum(nearest_N, _distances(vectors_ND, chosen[-1]))
    return chosen


def radius(vectors_ND: Array, chosen: Sequence[int]) -> float:
    """Distance of the row that lies farthest from the chosen one nearest to it."""
    nearest_N = np.full(len(vectors_ND), np.inf)
    for place in chosen:
        nearest_N = np.minimum(nearest_N, _distances(vectors_ND, place))
    return float(nearest_N.max())


def _distances(vectors_ND: Array, place: int) -> Array:
    """Euclidean, so that the triangle inequality, on which the bound of ``farthest_first`` rests, holds."""
    distances: Array = np.sqrt(((vectors_ND - vectors_ND[place]) ** 2).sum(axis=1))
    return distances


def _place(word: str) -> tuple[int, int]:
    number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
    return (number >> 1) % _SIZE, 1 if number & 1 else -1
