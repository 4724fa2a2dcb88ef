"""The two replies that somebody is to compare: a dataset's own, or two samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from align.collect._bench import Abstained
from align.generation.server import derived_seed

if TYPE_CHECKING:
    from align.collect._bench import Candidates, Writer
    from align.types import Reply

Origin = Literal["dataset", "sampled"]
Two = tuple["Reply", "Reply"]


def given_two(given: Sequence[Candidates]) -> list[Two | Abstained]:
    """The replies that the pairs came with, in their order."""
    found: list[Two | Abstained] = []
    for item in given:
        first, second = item.replies
        found.append((first, second))
    return found


def sampled_two(given: Sequence[Candidates], writer: Writer, seed: int) -> list[Two | Abstained]:
    """Two samples a prompt, drawn apart; none of them cut, blank, or the same as the other."""
    prompts = [item.prompt for item in given]
    one, other = (writer.write(prompts, derived_seed(seed, place)) for place in range(2))
    found: list[Two | Abstained] = []
    for first, second in zip(one, other, strict=True):
        if not (first.ended and second.ended):
            found.append(Abstained("not_ended"))
        elif not (first.text.strip() and second.text.strip()):
            found.append(Abstained("empty_reply"))
        elif first.text == second.text:
            found.append(Abstained("same_replies"))
        else:
            found.append((first.reply, second.reply))
    return found
