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


def split_of(prompt: Prompt, seed: int, test_fraction: float, validation_fraction: float) -> Split:
    """The split of a prompt: a uniform draw from [0, 1) by hash, below the fractions in turn.

    The lowest ``test_fraction`` is test, the next ``validation_fraction`` validation, the rest train.
    """
    digest = hashlib.blake2b(prompt_bytes(prompt), digest_size=8, salt=seed.to_bytes(16, "little"))
    # 53 bits: with all 64, the nearest float could be 1.0 itself
    draw = (int.from_bytes(digest.digest(), "big") >> 11) / (1 << 53)
    if draw < test_fraction:
        return "test"
    return "validation" if draw < test_fraction + validation_fraction else "train"
