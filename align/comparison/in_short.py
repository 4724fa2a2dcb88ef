"""The first lines of a comparison: what may be said after all, each sentence from the numbers below it."""

from __future__ import annotations

from collections.abc import Iterator

from align.comparison.warned import Alarms
from align.comparison.whole import Comparison
from align.report.names import in_words, measure
from align.report.terminal import number
from align.types import Result

_NAMED = 3  # pairs that are told by name


def in_short(found: Comparison) -> list[str]:
    """Sentences, the most important first."""
    return [*_best(found), *_pairs(found), *_turns(found), *_models(found), *_alarms(found.alarms)]


def title_of(found: Comparison) -> str:
    """``loss.beta: 3 settings over 2 seeds``, from the options that differ."""
    keys = list(found.groups[0].settings)
    runs = {len(group.runs) for group in found.groups}
    seeds = f", {runs.pop()} runs each" if len(runs) == 1 and runs != {1} else ""
    what = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    count = f"{len(found.groups)} settings{seeds}" if len(found.groups) > 1 else f"one setting{seeds}"
    return f"{found.stage}: {what or 'no option differs'} ({count})"


def words_of(metric: str) -> str:
    """``dpo/gold_win_rate`` -> ``dpo: win rate by gold``."""
    one = Result(metric, 0.0, 0, None, None, "")
    about = metric.removesuffix(measure(one)).rstrip("/")
    return f"{about}: {in_words(one)}" if about else in_words(one)


def _best(found: Comparison) -> Iterator[str]:
    first = next(iter(found.shown()), None)
    if first is None or len(found.cells[first]) < 2:
        return
    highest = max(found.cells[first].items(), key=lambda one: one[1].result.value)
    lowest = min(found.cells[first].items(), key=lambda one: one[1].result.value)
    yield (
        f"{words_of(first)} lies between {number(lowest[1].result.value)} ({lowest[0]}) and "
        f"{number(highest[1].result.value)} ({highest[0]})."
    )


def _pairs(found: Comparison) -> Iterator[str]:
    if found.unpaired:
        yield f"Nothing was compared prompt by prompt: {found.unpaired}."
        return
    count = len(found.differences)
    sure = [one for one in found.differences if one.sure]
    here = sum(one.shown and not one.sure for one in found.differences)
    pairs = f"{count} pair{'' if count == 1 else 's'} on the same prompts"
    if not sure and not here:
        yield f"No difference by {found.by} is shown, of {pairs}."
        return
    told = [
        f"{one.ours if one.score.value > 0 else one.theirs} above "
        f"{one.theirs if one.score.value > 0 else one.ours} by {number(abs(one.score.value))}"
        for one in sure[:_NAMED]
    ]
    more = f" and {len(sure) - _NAMED} more" if len(sure) > _NAMED else ""
    names = f": {'; '.join(told)}{more}" if told else ""
    yield (
        f"Of {pairs}, {len(sure)} differ{'s' if len(sure) == 1 else ''} by {found.by} over prompts and over "
        f"seeds{names}."
    )
    if here:
        yield (
            f"{here} more differ{'s' if here == 1 else ''} in these very runs, which other seeds may not "
            "repeat."
        )
    if len(sure) + here < count:
        yield f"For the other {count - len(sure) - here} no difference is shown."


def _turns(found: Comparison) -> Iterator[str]:
    for one in found.frontiers:
        peak = one.peak()
        if peak:
            yield (
                f"The curve of {one.reward} reward is highest at sqrt KL = {peak[0]:.2f} and falls beyond; "
                f"the furthest run is at {one.furthest():.2f}."
            )


def _models(found: Comparison) -> Iterator[str]:
    for one in found.models[:_NAMED]:
        slope = next((each for each in one.numbers if each.metric.endswith("/slope")), None)
        if slope is None or slope.ci_low is None or slope.ci_high is None:
            continue
        verdict = "is not shown to claim too much or too little"
        if slope.ci_high < 1:
            verdict = "claims too much"
        elif slope.ci_low > 1:
            verdict = "claims too little"
        yield (
            f"The reward model {one.label} {verdict}: its margins times {number(slope.value)} "
            f"({number(slope.ci_low)} to {number(slope.ci_high)}) would be calibrated."
        )


def _alarms(found: Alarms) -> Iterator[str]:
    if found.raised:
        runs = len({(one.group, one.run) for one in found.raised})
        kinds = ", ".join(dict.fromkeys(one.alarm for one in found.raised))
        yield f"{len(found.raised)} alarms in {runs} of {found.watched} runs that were watched: {kinds}."
    elif found.watched:
        yield f"No alarm was raised in {found.watched} runs that were watched."
