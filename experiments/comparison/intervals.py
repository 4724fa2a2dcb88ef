"""Worlds whose truth is known, and each interval that the page shows, drawn from them anew.

Legend: P prompts, R runs, K policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from align.evaluation import ranking, seeds, trust
from align.evaluation.calibration import accuracy_by, of_margins
from align.evaluation.length_control import length_controlled
from align.evaluation.paired import paired_test
from align.evaluation.statistics import mean, proportion
from align.types import Result

Rng = np.random.Generator
Draw = Callable[[Rng], tuple[Result, float]]
"""One experiment: what the page would show, and the truth."""


@dataclass(frozen=True)
class Shown:
    """One interval of the page."""

    where: str
    how: str
    """The world, in a few words."""
    draw: Draw


def wins(prompts: int, better: float, tie: float, rng: Rng) -> tuple[Result, float]:
    """A win rate with ties, a prompt each."""
    outcomes = rng.choice([1.0, 0.5, 0.0], p=[better, tie, 1 - better - tie], size=prompts)
    return proportion("win_rate", outcomes), better + tie / 2


def lengths(prompts: int, rng: Rng) -> tuple[Result, float]:
    """A mean of skewed numbers, as lengths and KL are."""
    return mean("length", rng.gamma(2.0, 20.0, size=prompts), seed=_seed(rng)), 40.0


def one_run(prompts: int, rng: Rng) -> tuple[Result, float]:
    """Gain of one run on prompts that recur: four of five once, the others twice."""
    keys = np.repeat(np.arange(prompts), np.where(rng.random(prompts) < 0.2, 2, 1))
    scores = 0.3 + rng.normal(size=prompts)[keys] + 0.5 * rng.normal(size=len(keys))
    return mean("gain", scores, keys.tolist(), seed=_seed(rng)), 0.3


def over_seeds(runs: int, rng: Rng) -> tuple[Result, float]:
    """The mean of runs over seeds."""
    return seeds.over_seeds("gain", rng.normal(0.3, 0.1, size=runs)), 0.3


def between_seeds(ours: int, theirs: int, rng: Rng) -> tuple[Result, float]:
    """Two groups over seeds, whose seeds scatter differently."""
    left, right = rng.normal(0.5, 0.1, size=ours), rng.normal(0.3, 0.2, size=theirs)
    return seeds.seed_effect("gain", left, right).difference, 0.2


def same_prompts(prompts: int, runs: int, truth: float, rng: Rng) -> tuple[Result, float]:
    """Two groups on the same prompts: difficulty is shared, each run adds its own noise."""
    hard_P = rng.normal(size=prompts)
    left = hard_P + truth + rng.normal(size=(runs, prompts)).mean(0)
    right = hard_P + rng.exponential(size=(runs, prompts)).mean(0) - 1
    return paired_test("gain", left, right, list(range(prompts)), seed=_seed(rng)).difference, truth


def equal_length(prompts: int, theta: float, rng: Rng) -> tuple[Result, float]:
    """Wins that length helps: the truth is what would be won at equal length."""
    gaps = rng.normal(15, 30, size=prompts)
    chances = 1 / (1 + np.exp(-(theta + 0.8 * np.tanh(gaps / gaps.std(ddof=1)))))
    outcomes = (rng.random(prompts) < chances).astype(float)
    found = length_controlled("win_rate", outcomes, 60 + gaps, np.full(prompts, 60.0))
    return found, 1 / (1 + math.exp(-theta))


def strength(prompts: int, policies: int, rng: Rng) -> tuple[Result, float]:
    """Bradley-Terry strengths: Gumbel noise on a prompt's scores makes the model exact."""
    truth_K = np.linspace(-0.6, 0.6, policies)
    scores_KP = truth_K[:, None] + rng.gumbel(size=(policies, prompts))
    found = ranking.bradley_terry([str(k) for k in range(policies)], ranking.wins_by_prompt(scores_KP))
    return found[-1], float(truth_K[-1])


@dataclass(frozen=True)
class Margins:
    """Pairs on which a reward model errs as sigmoid(slope x margin) says; one prompt's share their luck."""

    slope: float
    scale: float = 1.5

    def draw(self, prompts: int, rng: Rng) -> tuple[np.ndarray, list[int]]:
        """Margins of pairs, and their prompts: one pair or two a prompt."""
        keys = np.repeat(np.arange(prompts), rng.integers(1, 3, size=prompts))
        sizes = np.abs(rng.normal(0, self.scale, size=len(keys)))
        own, shared = rng.random(len(keys)), rng.random(prompts)[keys]
        luck = np.where(rng.random(prompts)[keys] < 0.5, own, shared)
        right = luck < 1 / (1 + np.exp(-self.slope * sizes))
        return np.where(right, sizes, -sizes), keys.tolist()

    def expected(self, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
        """Mean over margins of a function of the claimed and the true chance, by the trapezoid rule."""
        sizes = np.linspace(0, 9 * self.scale, 20_001)
        density = 2 * np.exp(-((sizes / self.scale) ** 2) / 2) / (self.scale * math.sqrt(2 * math.pi))
        claimed, true = (1 / (1 + np.exp(-factor * sizes)) for factor in (1.0, self.slope))
        return float(np.trapezoid(density * of(claimed, true), sizes))


def accuracy(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """A reward model's accuracy."""
    margins, keys = world.draw(prompts, rng)
    return proportion("accuracy", margins > 0, keys), world.expected(lambda claimed, true: true)


def slope(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """What its margins should be multiplied by."""
    return trust.slope("slope", *world.draw(prompts, rng)), world.slope


def overconfidence(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """What it claims less what is so."""
    found = trust.overconfidence("overconfidence", *world.draw(prompts, rng))
    return found, world.expected(lambda claimed, true: claimed - true)


def brier(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """Its Brier score."""
    found = trust.brier_score("brier", *world.draw(prompts, rng))
    return found, world.expected(lambda claimed, true: true * (1 - claimed) ** 2 + (1 - true) * claimed**2)


def reliability(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """A point of the reliability curve: the bin of claims from 0.6 to 0.7."""
    margins, keys = world.draw(prompts, rng)
    (found,) = [one for one in of_margins("curve", margins, keys).curve if abs(one.low - 0.6) < 1e-9]

    def inside(of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
        return world.expected(lambda claimed, true: of(claimed, true) * ((claimed >= 0.6) & (claimed < 0.7)))

    return found.share, inside(lambda claimed, true: true) / inside(lambda claimed, true: np.ones_like(true))


def by_length(prompts: int, world: Margins, rng: Rng) -> tuple[Result, float]:
    """A point of the accuracy by length, which tells nothing here."""
    margins, keys = world.draw(prompts, rng)
    found = accuracy_by("by_length", margins, rng.normal(size=len(margins)), keys)[2]
    return found.share, world.expected(lambda claimed, true: true)


_BOLD = Margins(slope=0.6)

SHOWN: Mapping[str, Shown] = {
    "win_rate": Shown("every metric", "win rate, 150 prompts, a fifth ties", partial(wins, 150, 0.55, 0.2)),
    "length": Shown("every metric", "skewed mean, 256 prompts", partial(lengths, 256)),
    "one_run": Shown("every metric", "gain, 120 prompts of which some recur", partial(one_run, 120)),
    "three_seeds": Shown("every metric", "mean of 3 seeds", partial(over_seeds, 3)),
    "eight_seeds": Shown("every metric", "mean of 8 seeds", partial(over_seeds, 8)),
    "same_prompts": Shown("differences", "128 prompts, 1 run each", partial(same_prompts, 128, 1, 0.2)),
    "same_prompts_3": Shown("differences", "128 prompts, 3 runs each", partial(same_prompts, 128, 3, 0.2)),
    "welch": Shown("differences over seeds", "5 seeds against 4", partial(between_seeds, 5, 4)),
    "equal_length": Shown(
        "at equal length", "200 prompts, longer replies win", partial(equal_length, 200, 0.4)
    ),
    "strength": Shown("Bradley-Terry", "5 policies, 150 prompts", partial(strength, 150, 5)),
    "accuracy": Shown("reward models", "accuracy, 200 prompts", partial(accuracy, 200, _BOLD)),
    "slope": Shown("reward models", "slope of an overconfident model", partial(slope, 200, _BOLD)),
    "slope_calibrated": Shown(
        "reward models", "slope of a calibrated model", partial(slope, 200, Margins(1.0))
    ),
    "overconfidence": Shown("reward models", "overconfidence", partial(overconfidence, 200, _BOLD)),
    "brier": Shown("reward models", "Brier score", partial(brier, 200, _BOLD)),
    "reliability": Shown("reliability curve", "claims from 0.6 to 0.7", partial(reliability, 300, _BOLD)),
    "by_length": Shown("accuracy by length", "the middle bin", partial(by_length, 300, _BOLD)),
}
"""By what ``--only`` names."""


def _seed(rng: Rng) -> int:
    # one seed of the bootstrap for all experiments would make their errors alike
    return int(rng.integers(2**31))
