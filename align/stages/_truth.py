"""What a source with a known truth can say that no other can: the best accuracy any model could reach."""

from __future__ import annotations

from typing import Any

from align.evaluation.accuracy import bayes_accuracy as bayes_result
from align.pairs.store import TokenStore
from align.protocols import KnownTruth, Source
from align.types import PreferencePair, Prompt, Result


def bayes_accuracy(source: Source, items: TokenStore[Any, Any]) -> list[Result]:
    """``reward/bayes_accuracy`` over the same unseen pairs; nothing without such pairs or a known truth."""
    if not isinstance(source, KnownTruth) or not len(items):
        return []
    probabilities: list[float] = []
    prompts: list[Prompt] = []
    for i in range(len(items)):
        pair = items.text(i)
        assert isinstance(pair, PreferencePair)
        probabilities.append(source.preference_probability(pair.prompt, pair.chosen, pair.rejected))
        prompts.append(pair.prompt)
    return [bayes_result(probabilities, prompts)]
