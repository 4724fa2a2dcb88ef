"""What training on pairs makes of a tie: nothing, a pair in one direction, or one in each."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from align.types import PreferencePair, PreferenceRecord

Ties = Literal["drop", "half", "both"]


def pairs_of(record: PreferenceRecord, ties: Ties) -> list[PreferencePair]:
    """The decisive pairs that a record stands for: its own, or those that ``ties`` makes of a tie.

    ``half``: one, in the direction that the hash of the record's id draws, so that each side of half the ties
    is preferred and every run draws the same. ``both``: one in each direction, ``<id>:first`` and
    ``<id>:second``, which pull a loss to even odds; both stand in the prompt's split. A tie's margin goes
    with it. Two bad replies make no pair, nor do two equal ones.
    """
    pair = record.pair()
    if pair is not None:
        return [pair]
    first, second = record.replies
    if record.preferred != "tie" or ties == "drop" or first.text == second.text:
        return []
    ahead, behind = (dataclasses.replace(record, preferred=side).pair() for side in ("first", "second"))
    assert ahead is not None
    assert behind is not None
    if ties == "both":
        return [
            dataclasses.replace(ahead, id=f"{record.id}:first"),
            dataclasses.replace(behind, id=f"{record.id}:second"),
        ]
    draw = hashlib.blake2b(b"tie" + record.id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]
    return [behind if draw & 1 else ahead]
