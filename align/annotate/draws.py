"""What is left to chance: sides, and which of an annotator's items are checks. Drawn from a secret by HMAC.

The same secret, annotator and number draw the same, so a restart changes nothing; without the secret nobody
can tell what comes next.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from fractions import Fraction

BLOCK = 4
"""Items within which as many replies stand on the left as on the right: at no point is the left share of the
first replies more than one item from a half."""

FINEST = 1_000_000
"""A share of less than one in so many is none."""


def first_left(secret: str, annotator: str, number: int) -> bool:
    """Whether the first reply stands on the left in this annotator's item of this number (from 1)."""
    block, place = divmod(number - 1, BLOCK)
    sides = [True, False] * (BLOCK // 2)
    _draw(secret, annotator, "sides", block).shuffle(sides)
    return sides[place]


def window(share: float, number: int) -> tuple[int, int]:
    """The numbers (first, last) around this one of which a share is one: 1 to 10, 11 to 20 ... for a tenth.

    Windows of a share that divides nothing evenly differ by one in length, and hold it exactly over time.
    """
    exact = Fraction(share).limit_denominator(FINEST)
    place = (number - 1) * exact.numerator // exact.denominator
    ends = [-(-which * exact.denominator // exact.numerator) for which in (place, place + 1)]
    return ends[0] + 1, ends[1]


def is_due(secret: str, annotator: str, what: str, share: float, number: int, last: int) -> bool:
    """Whether the item of this number is to be a check of this kind; ``last`` is the latest one's number, or
    0.

    One in each window: from a place in it that is drawn, unless the window has had its own. A check that
    could not be given there (another was due) is given later in its window, or not at all: never two for one
    window.
    """
    if share < 1 / FINEST:
        return False
    first, final = window(share, number)
    place = _draw(secret, annotator, what, first).randint(first, final)
    return last < first and number >= place


def _draw(secret: str, annotator: str, what: str, number: int) -> random.Random:
    said = f"{what}\0{number}\0{annotator}".encode()
    return random.Random(hmac.digest(bytes.fromhex(secret), said, hashlib.sha256))
