"""How far the length of the replies alone would give the labels, and pairs chosen so that it does not.

Lengths are in characters. A gap is the logarithm of chosen over rejected length, so that one reply twice as
long as the other counts the same whatever they are about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from align.config import Range
from align.errors import ConfigError
from align.evaluation.statistics import mean, proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from align.types import PreferencePair, Result


@dataclass(frozen=True)
class LengthControl:
    """Which pairs are left out because of the lengths of their replies."""

    how: Literal["none", "match", "cap"] = "none"
    """``match`` keeps as many pairs whose chosen reply is longer as pairs whose rejected one is, with like
    gaps; ``cap`` keeps the pairs whose gap is small; ``none`` keeps all."""
    most: Annotated[float, Range(low=1)] = 1.2
    """``cap``: times that the longer reply may be as long as the shorter one."""
    like: Annotated[float, Range(low=1)] = 1.1
    """``match``: times that the gaps of two matched pairs may differ."""

    def __post_init__(self) -> None:
        if self.how == "match" and self.like == 1:
            raise ConfigError("like=1 matches equal gaps only, which hardly two pairs have: try 1.1")


def kept_places(pairs: Sequence[PreferencePair], control: LengthControl) -> list[int]:
    """Places of the pairs that stay, in order; how many are left out is what is missing."""
    if control.how == "none":
        return list(range(len(pairs)))
    gaps = [_gap(pair) for pair in pairs]
    if control.how == "cap":
        limit = math.log(control.most)
        return [place for place, gap in enumerate(gaps) if abs(gap) <= limit]
    return _matched(gaps, math.log(control.like))


def _gap(pair: PreferencePair) -> float:
    """log(chosen / rejected length); an empty reply counts as one character."""
    return math.log(max(1, len(pair.chosen)) / max(1, len(pair.rejected)))


def _matched(gaps: Sequence[float], caliper: float) -> list[int]:
    """Pairs without a gap, and the most couples of opposite gaps whose sizes differ by ``caliper`` or less.

    Walking up both sorted sides and taking each first couple that fits is the largest matching: whoever is
    passed over is smaller than all that is left on the other side, less the caliper.
    """
    kept = [place for place, gap in enumerate(gaps) if gap == 0]
    longer = sorted((gap, place) for place, gap in enumerate(gaps) if gap > 0)
    shorter = sorted((-gap, place) for place, gap in enumerate(gaps) if gap < 0)
    i = j = 0
    while i < len(longer) and j < len(shorter):
        difference = longer[i][0] - shorter[j][0]
        if abs(difference) <= caliper:
            kept += [longer[i][1], shorter[j][1]]
            i, j = i + 1, j + 1
        elif difference < 0:
            i += 1
        else:
            j += 1
    return sorted(kept)


def length_report(pairs: Sequence[PreferencePair], label: str = "lengths") -> list[Result]:
    """What the lengths say of the labels; nothing without pairs.

    ``<label>/chosen_longer``: share of the pairs whose chosen reply is the longer one. ``longer_wins``: how
    often "the longer reply is preferred" is right, a guess (half) where both are of one length.
    ``chosen_characters``, ``rejected_characters`` and ``gap`` (mean of log chosen / rejected) are means.
    Intervals are over prompts.
    """
    if not pairs:
        return []
    chosen = np.array([len(pair.chosen) for pair in pairs], dtype=np.float64)
    rejected = np.array([len(pair.rejected) for pair in pairs], dtype=np.float64)
    prompts = [pair.prompt for pair in pairs]
    return [
        proportion(f"{label}/chosen_longer", (chosen > rejected).astype(np.float64), prompts),
        proportion(f"{label}/longer_wins", (np.sign(chosen - rejected) + 1) / 2, prompts),
        mean(f"{label}/chosen_characters", chosen, prompts),
        mean(f"{label}/rejected_characters", rejected, prompts),
        mean(f"{label}/gap", [_gap(pair) for pair in pairs], prompts),
    ]
