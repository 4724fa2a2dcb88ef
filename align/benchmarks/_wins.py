"""Outcomes of one side against another, prompt by prompt, as results: plain, and at equal lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from align.collect._bench import Abstained, Candidates
from align.errors import DataError
from align.evaluation.length_control import length_controlled
from align.evaluation.statistics import proportion
from align.report.console import say
from align.types import PreferenceRecord, Reply, Result

if TYPE_CHECKING:
    from align.evaluation.compare import Answers
    from align.protocols import Collecting
    from align.types import Prompt

WITHOUT_JUDGEMENT = ("orders_disagree", "unreadable", "question_too_long", "empty_reply", "same_replies")
"""Why a pair of replies has no judgement, each counted by itself."""


def at_equal_length(
    metric: str,
    outcomes: Sequence[float],
    lengths: Sequence[float],
    others: Sequence[float],
    clusters: Sequence[Hashable],
) -> list[Result]:
    """``length_controlled``, or nothing where no fit exists, which is said: few outcomes seldom allow one."""
    try:
        return [length_controlled(metric, outcomes, lengths, others, clusters)]
    except DataError as error:
        say(f"note: {error}")
        return []


def score_outcomes(ours: Answers, theirs: Answers) -> dict[int, float]:
    """Place of a prompt -> 1 where ours scores higher, 0 where lower, 1/2 at a tie; without empty replies."""
    assert ours.scores is not None, "unscored answers"
    assert theirs.scores is not None, "unscored answers"
    scores = list(zip(ours.scores, theirs.scores, strict=True))
    return {place: _outcome(*scores[place]) for place in both_replied(ours, theirs)}


def both_replied(ours: Answers, theirs: Answers) -> list[int]:
    """Places of the prompts to which neither reply is empty."""
    pairs = enumerate(zip(ours.replies, theirs.replies, strict=True))
    return [place for place, (one, other) in pairs if one.text.strip() and other.text.strip()]


def token_lengths(outcomes: dict[int, float], answers: Answers) -> list[float]:
    """Lengths of the replies that have an outcome."""
    return [len(answers.replies[place].token_ids) for place in outcomes]


def judged_wins(
    asking: Collecting, prompts: Sequence[Prompt], ours: Answers, theirs: Answers, seed: int
) -> list[Result]:
    """``<policy>/judge_win_rate`` over the pairs that have a judgement, ties half, and at equal lengths.

    ``judge_ties`` is the share of ties among those; ``judge_<reason>`` the share of all prompts that have no
    judgement for that reason (``orders_disagree``, ``unreadable`` ...), in place of a win or a loss.
    """
    missing: Counter[str] = Counter()
    asked = []
    both = set(both_replied(ours, theirs))
    for place in range(len(prompts)):
        if place not in both:
            missing["empty_reply"] += 1
        elif ours.replies[place].text == theirs.replies[place].text:
            missing["same_replies"] += 1
        else:
            asked.append(place)
    replies = [(Reply(ours.replies[i].text), Reply(theirs.replies[i].text)) for i in asked]
    items = [Candidates(prompts[i], two) for i, two in zip(asked, replies, strict=True)]
    outcomes: dict[int, float] = {}
    for place, two, (said,) in zip(asked, replies, asking(items, seed), strict=True):
        if isinstance(said, Abstained):
            missing[said.reason] += 1
        else:
            assert isinstance(said, PreferenceRecord), "a judge of two replies judges"
            outcomes[place] = _preferred(said, two[0])
    label, shares = f"{ours.label}/judge", dict.fromkeys((*WITHOUT_JUDGEMENT, *missing))
    results = _win_rates(label, outcomes, ours, theirs, prompts)
    for reason in shares:
        flags = [1.0] * missing[reason] + [0.0] * (len(prompts) - missing[reason])
        results.append(proportion(f"{label}_{reason}", flags))
    return results


def _win_rates(
    label: str, outcomes: dict[int, float], ours: Answers, theirs: Answers, prompts: Sequence[Prompt]
) -> list[Result]:
    if not outcomes:
        say(f"note: the judge compared no pair: there is no {label}_win_rate")
        return []
    values, clusters = list(outcomes.values()), [prompts[place] for place in outcomes]
    lengths, others = token_lengths(outcomes, ours), token_lengths(outcomes, theirs)
    return [
        proportion(f"{label}_win_rate", values, clusters),
        *at_equal_length(f"{label}_win_rate_at_equal_length", values, lengths, others, clusters),
        proportion(f"{label}_ties", [float(one == 0.5) for one in values], clusters),
    ]


def _preferred(said: PreferenceRecord, ours: Reply) -> float:
    if said.preferred == "tie":
        return 0.5
    chosen = said.replies[0] if said.preferred == "first" else said.replies[1]
    return float(chosen.text == ours.text)


def _outcome(ours: float, theirs: float) -> float:
    return 0.5 if ours == theirs else float(ours > theirs)
