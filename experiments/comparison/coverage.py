"""How often intervals hold the truth, and how often tests that have nothing to find say that they did."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from align.evaluation.calibration import of_margins
from align.evaluation.paired import LEVEL, detectable_difference, holm, mcnemar, paired_test
from align.evaluation.seeds import detectable_over_seeds, seed_effect
from align.evaluation.trust import error_by_chance
from experiments.comparison.intervals import SHOWN, Margins, Rng

Found = dict[str, Any]


def covered(name: str, draws: int) -> Found:
    """Share of experiments whose interval holds the truth, and the intervals' mean width."""
    rng, hits, width, began = np.random.default_rng(0), 0, 0.0, time.perf_counter()
    for _ in range(draws):
        result, truth = SHOWN[name].draw(rng)
        assert result.ci_low is not None
        assert result.ci_high is not None
        hits += result.ci_low <= truth <= result.ci_high
        width += (result.ci_high - result.ci_low) / draws
    return {"share": hits / draws, "width": width, "draws": draws, "seconds": time.perf_counter() - began}


def no_difference(rng: Rng) -> bool:
    """Six pairs of policies that are alike, on 128 prompts: does Holm's correction let any through?"""
    scores = rng.normal(size=128) + rng.normal(size=(4, 128))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    p = [paired_test("gain", scores[i], scores[j], seed=int(rng.integers(2**31))).p for i, j in pairs]
    return min(holm(p)) < LEVEL


def no_seed_effect(rng: Rng) -> bool:
    """Four seeds against four of the same setting."""
    return seed_effect("gain", rng.normal(size=4), rng.normal(size=4)).p < LEVEL


def equal_wins(rng: Rng) -> bool:
    """Two policies that beat the reference alike, on 100 prompts (McNemar's mid-p)."""
    luck = rng.random(100)
    ours, theirs = ((luck + 0.4 * rng.random(100)) > 0.7 for _ in range(2))
    return mcnemar(int((ours & ~theirs).sum()), int((theirs & ~ours).sum())).mid_p < LEVEL


def calibrated(rng: Rng) -> bool:
    """A calibrated model: is its calibration error above what chance is said to make of it?"""
    world = Margins(1.0)
    margins, keys = world.draw(300, rng)
    bound = error_by_chance("ece", margins, keys, seed=int(rng.integers(2**31)))
    return of_margins("ece", margins, keys).ece > bound


def shown_difference(rng: Rng) -> bool:
    """A difference of the size that is said to be shown four times of five, on 128 prompts."""
    noise = rng.normal(size=(2, 128))
    size = detectable_difference(noise[0], noise[1])
    fresh = rng.normal(size=(2, 128))
    return paired_test("gain", fresh[0] + size, fresh[1], seed=int(rng.integers(2**31))).p < LEVEL


def shown_over_seeds(rng: Rng) -> bool:
    """The same over five seeds on each side, whose spread is known here."""
    # seeds that lie as the quantiles of a normal do have about its spread, scaled to have it exactly
    fixed = np.array([-1.265, -0.632, 0.0, 0.632, 1.265])
    size = detectable_over_seeds(fixed / fixed.std(ddof=1), fixed / fixed.std(ddof=1))
    return seed_effect("gain", rng.normal(size=5) + size, rng.normal(size=5)).p < LEVEL


TESTS: Mapping[str, tuple[str, float, Callable[[Rng], bool]]] = {
    "holm": ("six pairs alike: any called different, after Holm", LEVEL, no_difference),
    "seeds_alike": ("4 seeds against 4 alike: called different", LEVEL, no_seed_effect),
    "mcnemar": ("wins alike: called different", LEVEL, equal_wins),
    "ece": ("a calibrated model: ECE above chance", LEVEL, calibrated),
    "detectable": ("the smallest difference that n shows: shown", 0.8, shown_difference),
    "detectable_seeds": ("the same over 5 seeds each: shown", 0.8, shown_over_seeds),
}
"""Name -> what is asked, how often it should be so, one experiment."""


def called(name: str, draws: int) -> Found:
    """Share of experiments in which the test says yes."""
    rng = np.random.default_rng(1)
    _, expected, once = TESTS[name]
    return {"share": sum(once(rng) for _ in range(draws)) / draws, "expected": expected, "draws": draws}


def measured(draws: int, names: Sequence[str], say: Callable[[str], None]) -> Found:
    """``intervals`` and ``tests``, each by name."""
    found: Found = {"intervals": {}, "tests": {}}
    for name in names:
        if name in SHOWN:
            found["intervals"][name] = covered(name, draws)
            say(f"  {name}: {found['intervals'][name]['share']:.3f}")
        if name in TESTS:
            found["tests"][name] = called(name, draws)
            say(f"  {name}: {found['tests'][name]['share']:.3f} of {TESTS[name][1]:g} called")
    return found


def error_of(share: float, draws: int) -> float:
    """Standard error of a share of experiments."""
    return math.sqrt(share * (1 - share) / draws)
