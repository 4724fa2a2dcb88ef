"""Unseen pairs beside what a source with a known truth says of them: the best that any model could reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.evaluation.accuracy import bayes_accuracy as bayes_result
from align.evaluation.pair_scores import PairScore
from align.pairs.check import prompt_id
from align.pairs.store import TokenStore
from align.protocols import KnownTruth, Source
from align.types import PreferencePair, Result


def bayes_accuracy(source: Source, items: TokenStore[Any, Any]) -> list[Result]:
    """``reward/bayes_accuracy`` over the same unseen pairs; nothing without such pairs or a known truth."""
    if not isinstance(source, KnownTruth) or not len(items):
        return []
    pairs = [items.text(i) for i in range(len(items))]
    return [bayes_result([_probability(source, one) for one in pairs], [one.prompt for one in pairs])]


def pair_lines(
    source: Source, items: TokenStore[Any, Any], chosen: Sequence[float], rejected: Sequence[float]
) -> list[PairScore]:
    """What ``pairs.jsonl`` says of each of the pairs that were scored so, in their order."""
    lines = []
    for i, (ahead, behind) in enumerate(zip(chosen, rejected, strict=True)):
        pair, tokens = items.text(i), items[i]
        lines.append(
            PairScore(
                id=pair.id,
                prompt=prompt_id(pair.prompt),
                chosen_score=ahead,
                rejected_score=behind,
                margin=ahead - behind,
                chosen_tokens=len(tokens.chosen_ids),
                rejected_tokens=len(tokens.rejected_ids),
                stated_margin=pair.margin,
                probability=_probability(source, pair) if isinstance(source, KnownTruth) else None,
            )
        )
    return lines


def _probability(source: KnownTruth, pair: PreferencePair) -> float:
    return source.preference_probability(pair.prompt, pair.chosen, pair.rejected)
