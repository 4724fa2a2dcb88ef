"""How often labels should be right, by what is known before they are held against the gold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from align.collect._bench import Truth
from align.evaluation.statistics import mean
from align.types import PreferenceRecord, Result

if TYPE_CHECKING:
    from align.types import Prompt


def claimed(records: Sequence[PreferenceRecord], truth: Truth | None) -> list[Result]:
    """Of pairs that a reward labelled: ``labels/expected_accuracy`` is 1 where it is the truth itself.

    Else ``labels/claimed_accuracy``, the mean of sigmoid(score difference): how often the reward would be
    right if its scores were Bradley-Terry's and it knew as much as it says.
    """
    if not records:
        return []
    if truth is not None and {record.judge.name for record in records} == {truth.source.reward}:
        return [Result("labels/expected_accuracy", 1.0, len(records), None, None, "exact")]
    claims = [1 / (1 + math.exp(-min(record.margin or 0.0, 700))) for record in records]
    return [mean("labels/claimed_accuracy", claims)]


def obedient(truth: Truth) -> list[Result]:
    """``labels/expected_accuracy`` of a policy that follows affixes as the source's own labeller does.

    Asked for a good reply it writes like the preferred side of a pair, asked for a bad one like the other.
    Of two pairs (a, b) of one prompt, A from the first and B from the second, the chance that the gold agrees
    is sum over i, j of P(a_i preferred) P(b_j not preferred) [gold(a_i) > gold(b_j)], a tie counted half.
    Nothing where the source has no two pairs of one prompt.
    """
    pairs: dict[Prompt, list[tuple[str, str]]] = defaultdict(list)
    for row in truth.source.rows():
        if row.values is not None:
            record = truth.source.record(row.values)
            assert isinstance(record, PreferenceRecord)
            pairs[record.prompt].append((record.replies[0].text, record.replies[1].text))
    chances = [
        (_chance(truth, prompt, found[0], found[1]) + _chance(truth, prompt, found[1], found[0])) / 2
        for prompt, found in pairs.items()
        if len(found) > 1
    ]
    return [mean("labels/expected_accuracy", chances)] if len(chances) > 1 else []


def _chance(truth: Truth, prompt: Prompt, good: tuple[str, str], bad: tuple[str, str]) -> float:
    gold = truth.gold.score([prompt] * 4, [*good, *bad])
    first = truth.source.preference_probability(prompt, *good)
    other = truth.source.preference_probability(prompt, *bad)
    return sum(
        chosen * rejected * (0.5 + 0.5 * ((mine > theirs) - (mine < theirs)))
        for mine, chosen in zip(gold[:2], (first, 1 - first), strict=True)
        for theirs, rejected in zip(gold[2:], (1 - other, other), strict=True)
    )
