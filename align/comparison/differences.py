"""Pairs of groups on the same prompts: how far apart, and whether prompts or seeds alone explain it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from align.comparison.groups import Group
from align.comparison.replies import Contestant, Field, wins_of
from align.evaluation.paired import LEVEL, detectable_difference, holm, mcnemar, paired_test
from align.evaluation.seeds import SeedEffect, detectable_over_seeds, seed_effect, seed_gain
from align.types import Result


@dataclass(frozen=True)
class Difference:
    """``ours`` less ``theirs``."""

    ours: str
    theirs: str
    score: Result
    """Mean difference of scores, prompt by prompt, of these very runs."""
    p: float
    p_holm: float
    """Of that difference over prompts, alone and among all pairs."""
    win_rate: float
    """Share of prompts (and pairs of runs) on which ours scores higher, ties half."""
    detectable: float
    """Smallest difference that as many prompts, among as many tests, show four times of five."""
    mcnemar: float | None
    """p (mid-p) of beating the reference on other prompts, or of being right on other pairs; of single runs
    only, and only where no prompt recurs: these are units then."""
    seeds: SeedEffect | None
    """The difference over runs, where both have two seeds or more."""
    seeds_p_holm: float | None
    seeds_detectable: float | None
    """Smallest difference that as many seeds, among as many tests, show four times of five."""
    verdict: str

    @property
    def shown(self) -> bool:
        """Whether these very runs differ on further prompts."""
        return self.p_holm < LEVEL

    @property
    def sure(self) -> bool:
        """Whether runs of other seeds would differ too."""
        return self.shown and self.seeds_p_holm is not None and self.seeds_p_holm < LEVEL


def differences(field: Field, baseline: Group, most_pairs: int) -> list[Difference]:
    """All pairs of contestants, or each against the baseline's where there are more than ``most_pairs``."""
    pairs = list(itertools.combinations(field.contestants, 2))
    if len(pairs) > most_pairs:
        first = next(one for one in field.contestants if one.group is baseline)
        pairs = [(one, first) for one in field.contestants if one is not first]
    found = [_difference(ours, theirs, field, LEVEL / len(pairs)) for ours, theirs in pairs]
    adjusted = holm([one.p for one in found])
    over_seeds = iter(holm([one.seeds.p for one in found if one.seeds is not None]))
    told = []
    for one, p in zip(found, adjusted, strict=True):
        seeds_p = next(over_seeds) if one.seeds is not None else None
        judged = replace(one, p_holm=p, seeds_p_holm=seeds_p)
        told.append(replace(judged, verdict=_verdict(judged)))
    return told


def _difference(ours: Contestant, theirs: Contestant, field: Field, level: float) -> Difference:
    metric = "accuracy" if field.of_pairs else f"{field.reward}_gain"
    left, right = ours.means_P(), theirs.means_P()
    tested = paired_test(metric, left, right, field.prompts)
    return Difference(
        ours=ours.name,
        theirs=theirs.name,
        score=tested.difference,
        p=tested.p,
        p_holm=tested.p,
        win_rate=float(wins_of([ours, theirs])[:, 0, 1].mean()),
        detectable=detectable_difference(left, right, field.prompts, level),
        mcnemar=_mcnemar(ours, theirs) if len(set(field.prompts)) == len(field.prompts) else None,
        seeds=_over_seeds(metric, ours, theirs),
        seeds_p_holm=None,
        seeds_detectable=_seeds_could_show(ours, theirs, level),
        verdict="",
    )


def _over_seeds(metric: str, ours: Contestant, theirs: Contestant) -> SeedEffect | None:
    """Runs as the units; the shared reference is one set of weights, and only ours has seeds then."""
    left, right = ours.scores_RP.mean(1), theirs.scores_RP.mean(1)
    if theirs.group is None:
        gained = None if ours.beside_RP is None else left - ours.beside_RP.mean(1)
        return None if gained is None or len(gained) < 2 else seed_gain(metric, gained)
    return seed_effect(metric, left, right) if min(len(left), len(right)) > 1 else None


def _seeds_could_show(ours: Contestant, theirs: Contestant, level: float) -> float | None:
    left, right = ours.scores_RP.mean(1), theirs.scores_RP.mean(1)
    if theirs.group is None:
        gained = None if ours.beside_RP is None else left - ours.beside_RP.mean(1)
        return None if gained is None or len(gained) < 2 else detectable_over_seeds(gained, level=level)
    return detectable_over_seeds(left, right, level) if min(len(left), len(right)) > 1 else None


def _mcnemar(ours: Contestant, theirs: Contestant) -> float | None:
    if ours.beside_RP is None or theirs.beside_RP is None or len(ours.scores_RP) + len(theirs.scores_RP) > 2:
        return None
    left, right = ours.scores_RP[0] > ours.beside_RP[0], theirs.scores_RP[0] > theirs.beside_RP[0]
    return mcnemar(int(np.sum(left & ~right)), int(np.sum(right & ~left))).mid_p


def _verdict(one: Difference) -> str:
    """What may be said, in words."""
    higher = one.ours if one.score.value > 0 else one.theirs
    if one.detectable == 0 and one.score.value == 0:
        return f"no difference: alike on all {one.score.n} prompts"
    if not one.shown:
        return f"no difference shown; {one.score.n} prompts would show one of {one.detectable:.2g} or more"
    if one.seeds is None:
        return f"{higher} is higher in these runs; other seeds are not known"
    if not one.sure:
        least = (
            "" if one.seeds_detectable is None else f"; as many would show one of {one.seeds_detectable:.2g}"
        )
        return f"{higher} is higher in these runs; seeds alone may explain it{least}"
    return f"{higher} is higher, over prompts and over seeds"


def found_of(items: Sequence[Difference]) -> list[Result]:
    """The differences as lines of results.json."""
    return [replace(one.score, metric=f"{one.ours} - {one.theirs}/{one.score.metric}") for one in items]
