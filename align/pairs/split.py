"""Which split a prompt belongs to: decided by its hash alone, so that no prompt stands in two splits.

No list of prompts is kept, a row's split does not depend on the rows around it, and a file that grows
keeps the splits of the rows that it had.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from align.types import Prompt

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def prompt_bytes(prompt: Prompt) -> bytes:
    """The prompt as bytes that tell any two prompts apart."""
    turns = [[message.role, message.content] for message in prompt]
    return json.dumps(turns, ensure_ascii=False).encode("utf-8", "surrogatepass")


def fold_split(prompt: Prompt, seed: int, folds: int, fold: int, validation_fraction: float) -> Split:
    """The split of a prompt where it is tested in one of ``folds`` folds: test in its own, else as drawn.

    Of the prompts of the other folds, ``validation_fraction`` are validation, whichever fold is tested.
    """
    if int(_draw(prompt, seed, b"") * folds) == fold:
        return "test"
    return "validation" if _draw(prompt, seed, b"validation") < validation_fraction else "train"


def split_of(prompt: Prompt, seed: int, test_fraction: float, validation_fraction: float) -> Split:
    """The split of a prompt: a uniform draw from [0, 1) by hash, below the fractions in turn.

    The lowest ``test_fraction`` is test, the next ``validation_fraction`` validation, the rest train.
    """
    draw = _draw(prompt, seed, b"")
    if draw < test_fraction:
        return "test"
    return "validation" if draw < test_fraction + validation_fraction else "train"


def _draw(prompt: Prompt, seed: int, person: bytes) -> float:
    """A uniform number in [0, 1), the prompt's own; another one for each ``person``."""
    salt = seed.to_bytes(16, "little")
    digest = hashlib.blake2b(prompt_bytes(prompt), digest_size=8, salt=salt, person=person)
    # 53 bits: with all 64, the nearest float could be 1.0 itself
    return (int.from_bytes(digest.digest(), "big") >> 11) / (1 << 53)
