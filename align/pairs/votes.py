"""Several judgements of one pair as one: what the majority says, or those who are mostly right.

A verdict is one of first, second, tie, both_bad; of several it is the one with more than half of the votes
(``majority``) or of the posterior (``reliable``: Dawid and Skene 1979, see ``align/agreement/``), and a tie
where none has. A judge votes on a pair once, on whichever side a reply stood.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from align.pairs.check import pair_id, record_id
from align.types import Judge, Preferred, Strength

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from align.pairs.report import DataReport
    from align.pairs.split import Split
    from align.types import Location, PreferenceRecord

    Checked = tuple[Split, PreferenceRecord, Location]

Votes = Literal["each", "majority", "reliable"]
VERDICTS: tuple[Preferred, ...] = get_args(Preferred)

T = TypeVar("T")
_TURNED: dict[Preferred, Preferred] = {
    "first": "second",
    "second": "first",
    "tie": "tie",
    "both_bad": "both_bad",
}


def combined(
    checked: Iterable[Checked], how: Literal["majority", "reliable"], report: DataReport
) -> Iterator[Checked]:
    """One record a pair, in the order and at the place of its first vote, once all rows were read.

    The rows are read once: records wait in a temporary file, and memory holds some hundred bytes a vote,
    whatever the texts. A judge's second vote on a pair is refused (``contradiction``; the reader has refused
    those that say the same), and votes that went into another's record are counted as ``report.combined``.
    """
    with tempfile.TemporaryFile() as waiting:
        pairs: dict[str, int] = {}
        judges: dict[Judge, int] = {}
        votes: dict[tuple[int, int], tuple[str, int]] = {}  # what was said, and where its record waits
        for split, record, at in checked:
            pair = pairs.setdefault(pair_id(record), len(pairs))
            judge = judges.setdefault(record.judge, len(judges))
            if (pair, judge) in votes:
                _, _, before = _at(waiting, votes[pair, judge][1])
                report.refuse(at, "contradiction", f"the same judge as {before}, who said otherwise there")
                continue
            votes[pair, judge] = (_canonical(record), waiting.seek(0, os.SEEK_END))
            pickle.dump((split, record, at), waiting)
        posteriors = _posteriors(votes) if how == "reliable" and votes else []
        places: list[list[int]] = [[] for _ in pairs]
        for (pair, _), (_, place) in votes.items():
            places[pair].append(place)
        for pair, own in enumerate(places):
            group = [_at(waiting, place) for place in own]
            split, first, at = group[0]
            records = [record for _, record, _ in group]
            report.combined += len(records) - 1
            if how == "majority":
                yield split, by_majority(records), at
            else:
                posterior = {_of(name, first): share for name, share in posteriors[pair].items()}
                yield split, by_posterior(records, posterior), at


def by_majority(records: Sequence[PreferenceRecord]) -> PreferenceRecord:
    """What more than half of all votes on a pair say, else a tie; a single vote stays as it is."""
    if len(records) == 1:
        return records[0]
    return _record(records, Counter(_verdicts(records)), "majority", {})


def by_posterior(
    records: Sequence[PreferenceRecord], posterior: Mapping[Preferred, float]
) -> PreferenceRecord:
    """What holds by more than half of the posterior, else a tie; a single vote is weighed, too."""
    rounded = {verdict: round(posterior[verdict], 6) for verdict in VERDICTS}
    return _record(records, posterior, "dawid_skene", {"posterior": rounded})


def _record(
    records: Sequence[PreferenceRecord], shares: Mapping[Preferred, float], name: str, more: dict[str, Any]
) -> PreferenceRecord:
    """The votes' common record.

    Texts, their order and what made them are the first vote's; method, guideline and template those of all
    votes, or none. ``details`` has how many voted what, and the ids of the votes; times stay with these.
    """
    verdicts = _verdicts(records)
    total = sum(shares.values())
    more_than_half = [word for word in VERDICTS if shares.get(word, 0) * 2 > total]
    verdict: Preferred = more_than_half[0] if more_than_half else "tie"
    counts = Counter(verdicts)
    first = records[0]
    combined = dataclasses.replace(
        first,
        preferred=verdict,
        judge=Judge("function", name),
        margin=_margin(records, verdicts, verdict),
        strength=_strength(records, verdicts, verdict),
        method=_shared([record.method for record in records]),
        guideline=_shared([record.guideline for record in records]),
        template=_shared([record.template for record in records]),
        asked_at=None,
        judged_at=None,
        details={
            "votes": {word: counts[word] for word in VERDICTS},
            "records": [record.id for record in records],
            **more,
        },
    )
    return dataclasses.replace(combined, id=record_id(combined))


def _margin(
    records: Sequence[PreferenceRecord], verdicts: Sequence[Preferred], verdict: Preferred
) -> float | None:
    """The votes' mean: those for the other side below zero, ties and two bad ones 0; itself never below 0.

    None where a decisive vote has none, or no vote is decisive.
    """
    margins = [record.margin for record, said in zip(records, verdicts, strict=True) if said in _SIGNS]
    signs = [_SIGNS[said] for said in verdicts if said in _SIGNS]
    if not margins or any(margin is None for margin in margins):
        return None
    total = sum(sign * margin for sign, margin in zip(signs, margins, strict=True) if margin is not None)
    return max(0.0, _SIGNS.get(verdict, 0) * total / len(records))


def _strength(
    records: Sequence[PreferenceRecord], verdicts: Sequence[Preferred], verdict: Preferred
) -> Strength | None:
    """The votes' mean step, reckoned as the margin is, rounded half up, at least 1.

    None for a verdict that is not decisive, or where the decisive votes have no common scale.
    """
    chosen = [
        (_SIGNS[said], record.strength)
        for record, said in zip(records, verdicts, strict=True)
        if said in _SIGNS
    ]
    scale = _shared([strength.of if strength else None for _, strength in chosen])
    if verdict not in _SIGNS or scale is None:
        return None
    steps = sum(sign * strength.step for sign, strength in chosen if strength) * _SIGNS[verdict]
    return Strength(max(1, math.floor(steps / len(records) + 0.5)), scale)


_SIGNS: dict[Preferred, int] = {"first": 1, "second": -1}


def _verdicts(records: Sequence[PreferenceRecord]) -> list[Preferred]:
    """What each vote says of the first one's first and second reply."""
    ahead = records[0].replies[0].text
    return [
        record.preferred if record.replies[0].text == ahead else _TURNED[record.preferred]
        for record in records
    ]


def _canonical(record: PreferenceRecord) -> str:
    """A verdict by the order of the texts: where a source always puts the better reply first, place tells."""
    first, second = (reply.text for reply in record.replies)
    return record.preferred if first <= second else _TURNED[record.preferred]


def _of(canonical: str, record: PreferenceRecord) -> Preferred:
    """``_canonical`` taken back: what it says of a record's own first and second reply."""
    verdict = next(word for word in VERDICTS if word == canonical)
    first, second = (reply.text for reply in record.replies)
    return verdict if first <= second else _TURNED[verdict]


def _posteriors(votes: Mapping[tuple[int, int], tuple[str, int]]) -> list[dict[str, float]]:
    """Each pair's, by canonical verdict; pairs are numbered in the order of their first votes."""
    from align.agreement.dawid_skene import dawid_skene

    cast = ((pair, judge, verdict) for (pair, judge), (verdict, _) in votes.items())
    fitted = dawid_skene(cast, VERDICTS)
    return [dict(zip(VERDICTS, row, strict=True)) for row in fitted.posteriors_IJ.tolist()]


def _at(waiting: Any, offset: int) -> Checked:
    waiting.seek(offset)
    found: Checked = pickle.load(waiting)
    return found


def _shared(values: Sequence[T]) -> T | None:
    """What all values are, or None."""
    return values[0] if values and all(value == values[0] for value in values) else None
