"""What a collection says of itself: how many pairs, how often none and why, and labels against the gold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from align.collect._bench import Abstained
from align.collect._lengths import length_report
from align.collect._probe import artefact_warning, probe
from align.evaluation.accuracy import accuracy
from align.evaluation.statistics import proportion
from align.generation.pools import prompt_messages
from align.protocols import Reports
from align.types import PreferencePair, PreferenceRecord, Result

if TYPE_CHECKING:
    from align.collect._bench import Collected, Truth
    from align.collect._loop import Outcomes
    from align.collect._probe import ProbeSettings
    from align.protocols import Collector, Scorer


def counts(each: Sequence[Outcomes], collected: Collected) -> list[Result]:
    """``collect/pairs``, ``collect/paired`` (share of items with one), ``collect/abstained/<reason>``."""
    items = len(each)
    paired = [not all(isinstance(one, Abstained) for one in found) for found in each]
    pairs = len(collected.records) + len(collected.candidates)
    return [
        Result("collect/pairs", float(pairs), items, None, None, "exact"),
        proportion("collect/paired", paired),
        *(
            Result(f"collect/abstained/{reason}", float(count), items, None, None, "exact")
            for reason, count in sorted(collected.abstained.items())
        ),
    ]


def label_results(collector: Collector, found: Collected, truth: Truth | None) -> list[Result]:
    """Labels against the gold, where the dataset knows it, and what the method itself reports.

    ``labels/accuracy``, ``labels/ties``, ``labels/margin`` (in units of gold); each prompt is one unit of the
    intervals. ``lengths/...`` as ``length_report`` says.
    """
    results: list[Result] = []
    pairs = decisive(found.records)
    if truth is not None and pairs:
        scores = [gold_scores(truth.gold, pairs, side) for side in ("chosen", "rejected")]
        results += accuracy(scores[0], scores[1], [pair.prompt for pair in pairs], "labels")
    if isinstance(collector, Reports):
        results += collector.report(found, truth)
    return results + length_report(pairs)


def agreement_by(
    label: str,
    records: Sequence[PreferenceRecord],
    truth: Truth | None,
    kind: Callable[[PreferenceRecord], str],
) -> list[Result]:
    """``<label>/<kind>_pairs`` and, where the truth is known, ``<label>/<kind>_accuracy``, kinds by name."""
    results = []
    for name in sorted({kind(one) for one in records}):
        pairs = decisive([one for one in records if kind(one) == name])
        if not pairs:
            continue
        results.append(Result(f"{label}/{name}_pairs", float(len(pairs)), len(pairs), None, None, "exact"))
        if truth is not None:
            chosen, rejected = (gold_scores(truth.gold, pairs, side) for side in ("chosen", "rejected"))
            agreed = accuracy(chosen, rejected, [pair.prompt for pair in pairs], label)[0]
            results.append(replace(agreed, metric=f"{label}/{name}_accuracy"))
    return results


@dataclass(frozen=True)
class Probed:
    """What word counts tell of the labels: results, words for run.json, and a warning where there is one."""

    results: list[Result]
    telling: list[dict[str, Any]]
    warning: str | None


def probed(
    records: Sequence[PreferenceRecord], truth: Truth | None, settings: ProbeSettings
) -> Probed | None:
    """``probe/accuracy``, and ``probe/gold_accuracy``: the same pairs with the truth's labels. None: too few.

    A pair that the truth scores alike keeps its label.
    """
    pairs = decisive(records)
    found = probe(pairs, settings)
    if found is None:
        return None
    results, gold = [found.accuracy], None
    if truth is not None:
        chosen, rejected = (gold_scores(truth.gold, pairs, side) for side in ("chosen", "rejected"))
        turned = [
            replace(pair, chosen=pair.rejected, rejected=pair.chosen) if low > high else pair
            for pair, high, low in zip(pairs, chosen, rejected, strict=True)
        ]
        gold = probe(turned, settings)
        assert gold is not None, "the same pairs were enough before"
        results.append(replace(gold.accuracy, metric="probe/gold_accuracy"))
    return Probed(results, [asdict(one) for one in found.telling], artefact_warning(found, gold, settings))


def decisive(records: Sequence[PreferenceRecord]) -> list[PreferencePair]:
    """What training will see of the records."""
    return [pair for record in records if (pair := record.pair()) is not None]


def gold_scores(scorer: Scorer, pairs: Sequence[PreferencePair], side: str) -> list[float]:
    """Scores of the ``chosen`` or the ``rejected`` replies."""
    return scorer.score([pair.prompt for pair in pairs], [getattr(pair, side) for pair in pairs])


def pair_samples(pairs: Sequence[PreferencePair], truth: Truth | None) -> list[dict[str, Any]]:
    """Rows of ``samples.jsonl``: the chosen reply beside the rejected one."""
    sides = ("chosen", "rejected")
    gold = {side: gold_scores(truth.gold, pairs, side) for side in sides} if truth and pairs else {}
    rows = []
    for place, pair in enumerate(pairs):
        replies = {}
        for side in sides:
            text = getattr(pair, side)
            replies[side] = {"text": text, "words": len(text.split()), "ended": True}
            if gold:
                replies[side]["scores"] = {"gold": gold[side][place]}
        rows.append({"prompt": prompt_messages(pair.prompt), "replies": replies})
    return rows
