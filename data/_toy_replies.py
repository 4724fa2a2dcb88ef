"""Replies of graded quality to a task of the embedded world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data import _toy_world as world

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True)
class Habits:
    """How a writer of one grade writes: each number is a probability, parts are drawn independently."""

    answers: float
    """Answers with a whole sentence instead of a shrug."""
    attentive: float
    """Gets one asked word right; drawn for verb, noun and setting apart."""
    greets: float
    closes: float
    reasons: float
    details: float
    """Adds a detail; drawn twice."""
    insults: float
    rambles: float
    """Says one of its sentences again, once or twice more."""
    stops_short: float
    """Is cut off a few words before its end."""


GRADES = {
    "careless": Habits(0.55, 0.50, 0.05, 0.05, 0.05, 0.30, 0.40, 0.30, 0.30),
    "hasty": Habits(0.85, 0.80, 0.20, 0.15, 0.20, 0.30, 0.10, 0.12, 0.12),
    "sound": Habits(0.97, 0.92, 0.45, 0.35, 0.45, 0.40, 0.02, 0.06, 0.05),
    "careful": Habits(1.00, 0.97, 0.70, 0.60, 0.70, 0.40, 0.00, 0.02, 0.02),
}
"""From worst to best. Courtesy, reasons, length and attention rise together: that is what fools a proxy."""


def reply(asked: world.Task, grade: str, rng: Random) -> str:
    """One reply of a grade, as text."""
    habits = GRADES[grade]
    sentences = []
    if rng.random() < habits.greets:
        sentences.append(rng.choice(world.GREETINGS))
    if rng.random() < habits.insults:
        sentences.append(rng.choice(world.INSULTS))
    sentences.append(_answer(asked, habits, rng))
    for detail in rng.sample(world.DETAILS, 2):
        if rng.random() < habits.details:
            sentences.append(detail.format(means=rng.choice(asked.domain.means)))
    if rng.random() < habits.reasons:
        sentences.append(rng.choice(world.REASONS))
    if rng.random() < habits.rambles:
        sentences += [rng.choice(sentences)] * rng.randint(1, 2)
    if rng.random() < habits.closes:
        sentences.append(rng.choice(world.CLOSINGS))
    text = " ".join(sentences)
    return _cut(text, rng) if rng.random() < habits.stops_short else text


def overdone_reply(asked: world.Task, rng: Random) -> str:
    """A reply that has too much of a good thing: courtesies piled up, or the asked words stuffed in."""
    answer = rng.choice(world.ANSWERS).format(task=asked, means=rng.choice(asked.domain.means))
    if rng.random() < 0.5:
        gush = rng.sample(world.GREETINGS, 3), rng.sample(world.CLOSINGS, rng.randint(2, 3))
        return " ".join([*gush[0], answer, *gush[1]])
    stuffing = " ".join(rng.choice((asked.verb, asked.noun)) for _ in range(rng.randint(4, 8)))
    return f"{answer} {stuffing.capitalize()}."


def _answer(asked: world.Task, habits: Habits, rng: Random) -> str:
    means = rng.choice(asked.domain.means)
    if rng.random() >= habits.answers:
        return rng.choice(world.SHRUGS).format(means=means)
    other = world.task(rng.randrange(world.TASK_COUNT))
    told = world.Task(
        verb=asked.verb if rng.random() < habits.attentive else other.verb,
        noun=asked.noun if rng.random() < habits.attentive else other.noun,
        setting=asked.setting if rng.random() < habits.attentive else other.setting,
        domain=asked.domain,
    )
    return rng.choice(world.ANSWERS).format(task=told, means=means)


def _cut(text: str, rng: Random) -> str:
    """Without its last one to four words, but never empty."""
    words = text.split()
    kept = max(1, len(words) - rng.randint(1, 4))
    return " ".join(words[:kept]).rstrip(".,?")
