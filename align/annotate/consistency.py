"""How steady one annotator is: against known answers, against peers, against the same annotator earlier.

Pure functions of votes in canonical terms. A skipped or undone answer is no answer and counts nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from align.annotate.settings import AllocationSettings
from align.annotate.types import Vote
from align.evaluation.statistics import proportion
from align.types import Preferred, Result

DECIDED: tuple[Preferred, ...] = ("first", "second", "tie", "both_bad")
"""What an answer can say; ``skip`` and ``undone`` say nothing of the pair."""


@dataclass(frozen=True)
class Times:
    """Seconds from seeing an item to answering it, as browsers measured them: quantiles of ``n`` of them."""

    n: int
    p10: float
    median: float
    p90: float


@dataclass(frozen=True)
class Consistency:
    """Shares of answers, each with its interval; None where there is nothing yet to take a share of."""

    gold: Result | None
    """Right ones on gold items."""
    attention: Result | None
    """Right ones on attention checks."""
    peers: Result | None
    """Of all comparisons with another's vote on the same pair, those that are equal; by pair."""
    repeats: Result | None
    """Items shown again that got the same answer again."""
    left: Result | None
    """Choices of the left side among those of either side; a half where sides do not matter."""
    times: Times | None


@dataclass
class _Outcomes:
    """1 and 0 of one annotator, by what they are compared with."""

    gold: list[float] = field(default_factory=list)
    attention: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)
    peer_pairs: list[str] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def counts(vote: Vote) -> bool:
    """Whether it is a vote on its pair: decided, on an ordinary item, the first of its annotator, in time."""
    return vote.kind == "ordinary" and not vote.repeat and not vote.surplus and vote.said in DECIDED


def by_pair(votes: Iterable[Vote]) -> dict[str, list[Vote]]:
    """The votes that count, by pair."""
    pairs: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        if counts(vote):
            pairs[vote.pair_id].append(vote)
    return dict(pairs)


def consistencies(votes: Sequence[Vote]) -> dict[str, Consistency]:
    """Of each annotator who has answered anything."""
    found: dict[str, _Outcomes] = defaultdict(_Outcomes)
    for vote in votes:
        if vote.said in DECIDED:
            _note_alone(found[vote.annotator], vote)
    _note_repeats(found, votes)
    for pair_id, cast in by_pair(votes).items():
        for mine in cast:
            for other in cast:
                if other.annotator != mine.annotator:
                    found[mine.annotator].peers.append(float(mine.said == other.said))
                    found[mine.annotator].peer_pairs.append(pair_id)
    return {name: _summed(outcomes) for name, outcomes in found.items()}


def left_rate(votes: Iterable[Vote]) -> Result | None:
    """Left choices of all annotators, attention checks (which name a side) left out; Wilson's interval."""
    return _share("left_choice_rate", [float(side) for side in map(_left, votes) if side is not None])


def seconds_of(vote: Vote) -> float | None:
    """Time of an answer; None of a skipped one, and of attention checks: they are read at another pace."""
    return vote.seconds if vote.said in DECIDED and vote.kind != "attention" else None


def times(seconds: Sequence[float]) -> Times | None:
    """Median and the 10 % and 90 % points (linear between values); None of no times."""
    if not seconds:
        return None
    p10, median, p90 = (float(value) for value in np.quantile(np.array(seconds), (0.1, 0.5, 0.9)))
    return Times(len(seconds), p10, median, p90)


def warnings(one: Consistency, settings: AllocationSettings) -> tuple[str, ...]:
    """What of an annotator lies beyond the thresholds of the settings, in words."""
    found = _too_low(one.gold, settings.warn_below, "right on gold items", settings.judged_after)
    failed = 0 if one.attention is None else round(one.attention.n * (1 - one.attention.value))
    if one.attention is not None and failed:
        found.append(f"{failed} of {one.attention.n} attention checks failed")
    return (*found, *habits(one, settings))


def habits(one: Consistency, settings: AllocationSettings) -> tuple[str, ...]:
    """Those of the warnings that rest on no known answer: repeats, sides, haste."""
    enough = settings.judged_after
    found = _too_low(one.repeats, settings.repeats_below, "the same answer to repeated items", enough)
    if settings.left_beyond and one.left is not None and _lies_beyond(one.left, settings.left_beyond):
        found.append(
            f"left in {_percent(one.left.value)} of {one.left.n} choices; its interval lies beyond "
            f"50 ± {100 * settings.left_beyond:.0f} %"
        )
    if one.times is not None and one.times.n >= enough and one.times.median < settings.too_fast_seconds:
        found.append(f"median of {one.times.median:.1f} s an item, under {settings.too_fast_seconds:g} s")
    return tuple(found)


def pairwise(votes: Iterable[Vote], names: Sequence[str]) -> Mapping[tuple[str, str], tuple[int, int]]:
    """(equal votes, pairs that both voted on) of each two of these annotators, either way round."""
    wanted = set(names)
    equal: dict[tuple[str, str], tuple[int, int]] = {}
    for cast in by_pair(votes).values():
        here = [vote for vote in cast if vote.annotator in wanted]
        for mine in here:
            for other in here:
                if mine.annotator != other.annotator:
                    key = (mine.annotator, other.annotator)
                    same, both = equal.get(key, (0, 0))
                    equal[key] = (same + (mine.said == other.said), both + 1)
    return equal


def _note_alone(outcomes: _Outcomes, vote: Vote) -> None:
    """What one vote says by itself."""
    if vote.kind != "ordinary" and not vote.repeat and vote.right_answer is not None:
        checked = outcomes.gold if vote.kind == "gold" else outcomes.attention
        checked.append(float(vote.said == vote.right_answer))
    side = _left(vote)
    if side is not None:
        outcomes.left.append(float(side))
    seconds = seconds_of(vote)
    if seconds is not None:
        outcomes.seconds.append(seconds)


def _note_repeats(found: Mapping[str, _Outcomes], votes: Sequence[Vote]) -> None:
    decided = [vote for vote in votes if vote.said in DECIDED]
    first = {(vote.annotator, vote.pair_id): vote.said for vote in decided if not vote.repeat}
    for vote in decided:
        before = first.get((vote.annotator, vote.pair_id))
        if vote.repeat and before is not None:
            found[vote.annotator].repeats.append(float(vote.said == before))


def _summed(outcomes: _Outcomes) -> Consistency:
    return Consistency(
        gold=_share("gold_accuracy", outcomes.gold),
        attention=_share("attention_accuracy", outcomes.attention),
        peers=_share("peer_agreement", outcomes.peers, outcomes.peer_pairs),
        repeats=_share("repeat_consistency", outcomes.repeats),
        left=_share("left_choice_rate", outcomes.left),
        times=times(outcomes.seconds),
    )


def _share(metric: str, outcomes: list[float], clusters: list[str] | None = None) -> Result | None:
    return proportion(metric, outcomes, clusters) if outcomes else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _left(vote: Vote) -> bool | None:
    return None if vote.kind == "attention" else vote.left_chosen()


def _too_low(share: Result | None, limit: float, what: str, enough: int) -> list[str]:
    if share is None or share.n < enough or share.value >= limit:
        return []
    return [f"{_percent(share.value)} {what} (of {share.n}), below {_percent(limit)}"]


def _lies_beyond(left: Result, distance: float) -> bool:
    low, high = left.ci_low, left.ci_high
    return low is not None and high is not None and (low > 0.5 + distance or high < 0.5 - distance)
