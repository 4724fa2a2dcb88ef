"""Pairs as plain numbers, and as the batch that a loss sees: for the tests of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from align.config import build
from align.losses.mixture import Term
from align.protocols import PairLoss
from align.tensors import PairLogps, TokenLogps


class Pair(NamedTuple):
    """Sequence log-probabilities in nats under the policy and the reference, and lengths in tokens."""

    chosen: float
    rejected: float
    base_chosen: float
    base_rejected: float
    length_chosen: int
    length_rejected: int


PAIRS = [
    Pair(-20.0, -25.0, -22.0, -21.0, 8, 9),
    Pair(-31.0, -12.5, -30.0, -14.0, 11, 5),
    Pair(-3.0, -3.5, -3.0, -3.25, 2, 2),
]
"""Log-ratios 2, -1, 0 of the chosen and -4, 1.5, -0.25 of the rejected replies."""


def component(name: str, **settings: object) -> PairLoss:
    """A loss by its name, built as a config builds it."""
    return build(Term, {"loss": {"name": name, **settings}}).loss


def logps_of(pairs: Sequence[Pair], dtype: torch.dtype = torch.float64) -> PairLogps:
    """The pairs as a batch; every token of a reply has the same log-probability."""
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True)]
    lengths_2B = torch.cat(columns[4:])
    mask_BT = torch.arange(int(lengths_2B.max())) < lengths_2B.unsqueeze(1)
    policy, reference = (
        TokenLogps(((torch.cat(sides) / lengths_2B).unsqueeze(1) * mask_BT).to(dtype), mask_BT)
        for sides in (columns[:2], columns[2:4])
    )
    sums = [column.to(dtype) for column in columns[:4]]
    return PairLogps(*sums, columns[4].long(), columns[5].long(), policy, reference)
