"""Rows of RewardBench files, and what a reward says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from align.errors import BadRow
from align.evaluation.policies import scores_of
from align.evaluation.statistics import mean, proportion
from align.pairs.fields import messages_of, own_id, prompt_of, text_of

if TYPE_CHECKING:
    from align.protocols import Scorer
    from align.types import Prompt, Result


@dataclass(frozen=True)
class Candidate:
    """One row: a prompt, its right replies first, then wrong ones."""

    id: str
    subset: str
    prompt: Prompt
    replies: tuple[str, ...]
    right: int
    """How many of the replies, from the first on, are right."""

    @property
    def empty(self) -> bool:
        """Whether a reply is blank: there is nothing to be scored."""
        return not all(reply.strip() for reply in self.replies)


def slug(name: str) -> str:
    """A subset's name as a part of a metric's: ``Precise IF`` is ``precise_if``."""
    return re.sub(r"[\s/]+", "_", name.strip().lower())


def one_of_two(values: Mapping[str, Any]) -> Candidate:
    """A row with one chosen and one rejected reply, as text or as messages. Raises ``BadRow``."""
    replies = (_reply(values, "chosen"), _reply(values, "rejected"))
    return Candidate(own_id(values), text_of(values, "subset"), prompt_of(values, "prompt"), replies, 1)


def some_of_many(values: Mapping[str, Any]) -> Candidate:
    """A row with lists of right and wrong replies. Raises ``BadRow``."""
    right, wrong = (_texts(values, key) for key in ("chosen", "rejected"))
    stated = values.get("num_correct")
    if stated is not None and stated != len(right):
        raise BadRow("miscounted", f"'num_correct' is {stated}, and 'chosen' holds {len(right)} replies")
    replies = (*right, *wrong)
    prompt, subset = prompt_of(values, "prompt"), text_of(values, "subset")
    return Candidate(own_id(values), subset, prompt, replies, len(right))


def scored(scorer: Scorer, items: Sequence[Candidate]) -> list[list[float]]:
    """Each item's scores, in the order of its replies; all are asked for at once."""
    flat = scores_of(
        scorer,
        [item.prompt for item in items for _ in item.replies],
        [reply for item in items for reply in item.replies],
    )
    values = iter(flat)
    return [[next(values) for _ in item.replies] for item in items]


def share(metric: str, outcomes: Sequence[float], units: Sequence[Prompt]) -> Result:
    """A proportion where outcomes are 0, 1/2 and 1, or else a mean."""
    whole = all(one in (0.0, 0.5, 1.0) for one in outcomes)
    return (proportion if whole else mean)(metric, outcomes, units)


def by_subset(items: Sequence[Candidate]) -> dict[str, list[int]]:
    """Subset -> the places of its items, subsets in the order of the file."""
    found: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(item.subset, []).append(place)
    return found


def _reply(values: Mapping[str, Any], key: str) -> str:
    if isinstance(values.get(key), list):
        return messages_of(values, key)[-1].content
    return text_of(values, key)


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = values.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise BadRow("not_texts", f"'{key}' is a list of texts, with one at least, not {str(found)[:60]!r}")
    return tuple(found)
