"""Could a model tell the chosen side from the rejected one by its words alone?

A logistic regression on word counts, log(1 + chosen) less log(1 + rejected), scored on prompts that it has
not seen. A pair is turned round by the sign of its features, so the model has no intercept and its baseline
is exactly one half: were the labels fair coins, each unseen pair would be right with probability 1/2,
whatever was learned.

High accuracy is not bad by itself: a polite reply that is preferred for its politeness is told by its words,
too. What counts is how much better the words tell these labels than they would tell the truth's; where no
truth is known, ``limit`` stands in for it (bag-of-words models reach 0.6 to 0.7 on what people choose).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from align.config import Range
from align.evaluation.statistics import mean_interval, proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from align.types import PreferencePair, Result

    Array = NDArray[np.float64]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]")
"""Words, and marks by themselves: an artefact may well be a colon or an asterisk."""
_LEAST_PAIRS = 20
"""Pairs below which folds say nothing."""


@dataclass(frozen=True)
class ProbeSettings:
    """How hard the word-count probe looks, and when it warns."""

    folds: Annotated[int, Range(low=2)] = 5
    """Parts of the prompts, each of which is looked at by a model of the others."""
    least: Annotated[int, Range(low=1)] = 3
    """Pairs in which a word's counts must differ for it to be looked at."""
    penalty: Annotated[float, Range(low=0, low_open=True)] = 3.0
    """Half of this times the squared weights is added to the summed loss."""
    limit: Annotated[float, Range(low=0.5, high=1)] = 0.8
    """Accuracy that is a warning where no truth is known."""
    excess: Annotated[float, Range(low=0, high=0.5)] = 0.02
    """Accuracy above that on the truth's labels that is a warning where a truth is known."""
    most: Annotated[int, Range(low=1)] = 20000
    """Pairs that are looked at, at most; of more, as many spread evenly over them."""
    words: Annotated[int, Range(low=1)] = 8
    """Telling words that are named, for each side."""


@dataclass(frozen=True)
class Telling:
    """A word by which the sides can be told: its weight (log-odds a count), and pairs with more on a side."""

    word: str
    weight: float
    chosen: int
    rejected: int

    def surety(self) -> float:
        """How far the split lies from even, in a fair coin's standard deviations; positive for chosen.

        Words are ranked by it and not by weight: a rare word may weigh much and tell little, and of two
        words that go together one may weigh less than nothing.
        """
        return (self.chosen - self.rejected) / math.sqrt(self.chosen + self.rejected)


@dataclass(frozen=True)
class Probe:
    """How well words tell the sides of pairs: on each unseen pair 1, 0, or 1/2 where they say nothing."""

    accuracy: Result
    right: tuple[float, ...]
    prompts: tuple[int, ...]
    """Which pairs share a prompt: a number a pair."""
    telling: tuple[Telling, ...]
    """Words of the chosen side, the surest first, then those of the rejected side."""


@dataclass(frozen=True)
class Counts:
    """What pairs have of words, sparse: entry e is that of pair ``rows[e]`` and word ``columns[e]``.

    ``values[e]`` is log(1 + count) in the chosen reply less that in the rejected one: the tenth "the" says
    less than the first "sorry". Entries are in the order of their pairs.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Array
    pairs: int
    vocabulary: tuple[str, ...]

    def times(self, weights: Array) -> Array:
        """One margin a pair."""
        return _summed(self.rows, self.values * weights[self.columns], self.pairs)

    def transposed_times(self, margins: Array) -> Array:
        """One sum a word."""
        return _summed(self.columns, self.values * margins[self.rows], len(self.vocabulary))


def probe(pairs: Sequence[PreferencePair], settings: ProbeSettings, label: str = "probe") -> Probe | None:
    """Cross-validated by prompt; None where there are too few pairs, or prompts, to say anything."""
    pairs = sampled(pairs, settings.most)
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(pair.prompt for pair in pairs))}
    if len(pairs) < _LEAST_PAIRS or len(prompts) < settings.folds:
        return None
    counts = counted(pairs, settings.least)
    groups = np.array([prompts[pair.prompt] for pair in pairs])
    # a fixed seed: the same pairs give the same folds in every run
    fold = np.random.default_rng(0).permutation(len(prompts))[groups] % settings.folds
    margins = np.zeros(len(pairs))
    for number in range(settings.folds):
        weights = fitted(counts, settings.penalty, used=fold != number)
        held = fold == number
        margins[held] = counts.times(weights)[held]
    right = (np.sign(margins) + 1) / 2
    accuracy = proportion(f"{label}/accuracy", right, groups.tolist())
    return Probe(accuracy, tuple(right.tolist()), tuple(groups.tolist()), _telling(counts, settings))


def sampled(pairs: Sequence[PreferencePair], most: int) -> Sequence[PreferencePair]:
    """The pairs that are looked at: ``most`` of them, spread evenly."""
    if len(pairs) <= most:
        return pairs
    return [pairs[len(pairs) * i // most] for i in range(most)]


def artefact_warning(found: Probe, truth: Probe | None, settings: ProbeSettings) -> str | None:
    """Why the sides may be told apart by artefacts, in one line; None where nothing says so.

    ``truth`` is the probe on the same pairs with the truth's labels. Sure enough means that the whole
    interval lies beyond the limit.
    """
    accuracy = found.accuracy
    if truth is None:
        if accuracy.ci_low is None or accuracy.ci_low <= settings.limit:
            return None
        why = f"more than {settings.limit:g} is rarely a matter of quality"
    else:
        gained = np.array(found.right) - np.array(truth.right)
        if mean_interval(gained, found.prompts).low <= settings.excess:
            return None
        why = f"the truth's labels on {truth.accuracy.value:.1%}"
    surest = sorted(found.telling, key=lambda one: -abs(one.surety()))[:4]
    words = ", ".join(f"'{one.word}' {one.chosen}:{one.rejected}" for one in surest)
    return (
        f"warning: word counts alone tell the sides apart on {accuracy.value:.1%} of unseen pairs ({why}): "
        f"a model may learn artefacts. The surest words, with the pairs whose chosen:rejected side has more "
        f"of them: {words}"
    )


def counted(pairs: Sequence[PreferencePair], least: int) -> Counts:
    """Counts of the words that differ in ``least`` pairs or more; case is folded."""
    differences = []
    for pair in pairs:
        chosen, rejected = Counter(_words(pair.chosen)), Counter(_words(pair.rejected))
        words = [word for word in chosen | rejected if chosen[word] != rejected[word]]
        differences.append({word: math.log1p(chosen[word]) - math.log1p(rejected[word]) for word in words})
    spread = Counter(word for one in differences for word in one)
    vocabulary = tuple(sorted(word for word, seen in spread.items() if seen >= least))
    places = {word: i for i, word in enumerate(vocabulary)}
    entries = [
        (row, places[word], value)
        for row, one in enumerate(differences)
        for word, value in sorted(one.items())
        if word in places
    ]
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return Counts(
        np.array(rows, dtype=np.int64),
        np.array(columns, dtype=np.int64),
        np.array(values, dtype=np.float64),
        len(pairs),
        vocabulary,
    )


def fitted(counts: Counts, penalty: float, used: NDArray[np.bool_] | None = None) -> Array:
    """The minimiser of sum_i log(1 + exp(-x_i w)) + penalty/2 |w|^2 over the used pairs, by Newton's method.

    It is convex with a curvature of ``penalty`` at least; each step is solved by conjugate gradients.
    """
    weight = np.ones(counts.pairs) if used is None else used.astype(np.float64)
    w = np.zeros(len(counts.vocabulary))
    for _ in range(100):
        margins = counts.times(w)
        # P(the rejected side) by the model: the slope of the loss
        wrong = np.exp(-np.logaddexp(0.0, margins))
        gradient = penalty * w - counts.transposed_times(weight * wrong)
        if float(np.abs(gradient).max(initial=0.0)) < 1e-7 * max(1.0, float(weight.sum())):
            return w
        curvature = weight * wrong * (1 - wrong)
        step = _solved(counts, curvature, penalty, gradient)
        size, slope, before = 1.0, float(gradient @ step), _loss(counts, w, weight, penalty)
        while _loss(counts, w - size * step, weight, penalty) > before - 0.25 * size * slope and size > 1e-6:
            size /= 2
        w = w - size * step
    return w


def _summed(places: NDArray[np.int64], values: Array, size: int) -> Array:
    return np.bincount(places, values, minlength=size).astype(np.float64)


def _loss(counts: Counts, w: Array, weight: Array, penalty: float) -> float:
    losses = np.logaddexp(0.0, -counts.times(w))
    return float(weight @ losses) + penalty / 2 * float(w @ w)


def _solved(counts: Counts, curvature: Array, penalty: float, target: Array) -> Array:
    """Conjugate gradients for (X^T diag(curvature) X + penalty) s = target, scaled by its diagonal.

    Frequent words, whose counts differ in nearly every pair, would make it take much longer without.
    """
    squares = counts.values**2 * curvature[counts.rows]
    diagonal = penalty + _summed(counts.columns, squares, len(target))
    solution, residual = np.zeros_like(target), target.copy()
    direction = residual / diagonal
    size = float(residual @ direction)
    enough = 1e-4 * size  # a step need not be exact: the next one starts where it leads
    for _ in range(200):
        if size <= enough:
            break
        bent = counts.transposed_times(curvature * counts.times(direction)) + penalty * direction
        reach = size / float(direction @ bent)
        solution += reach * direction
        residual -= reach * bent
        scaled = residual / diagonal
        size, before = float(residual @ scaled), size
        direction = scaled + size / before * direction
    return solution


def _telling(counts: Counts, settings: ProbeSettings) -> tuple[Telling, ...]:
    weights = fitted(counts, settings.penalty)
    size = len(counts.vocabulary)
    chosen = np.bincount(counts.columns[counts.values > 0], minlength=size)
    rejected = np.bincount(counts.columns[counts.values < 0], minlength=size)
    found = [
        Telling(word, float(weights[i]), int(chosen[i]), int(rejected[i]))
        for i, word in enumerate(counts.vocabulary)
    ]
    ranked = sorted(found, key=lambda one: -one.surety())
    top = [one for one in ranked[: settings.words] if one.surety() > 0]
    return (*top, *(one for one in ranked[::-1][: settings.words] if one.surety() < 0))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
