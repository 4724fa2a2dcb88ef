"""Percent agreement, Fleiss' kappa, Krippendorff's alpha, and their bootstrap intervals. Numpy only.

Legend: U units, C categories, R resamples of the units, M moments. Each coefficient is a function of sums
over units, so a resample costs a row of sums; units with fewer than two votes are left out of all.

Sources: Fleiss (1971), "Measuring nominal scale agreement among many raters"; Gwet (2014), "Handbook of
Inter-Rater Reliability", 4th ed., ch. 2 (raters that differ in number); Krippendorff (2011), "Computing
Krippendorff's alpha-reliability"; Zapf et al. (2016), "Measuring inter-rater reliability for nominal data:
which coefficients and confidence intervals are appropriate?" (percentile bootstrap over units).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from align.agreement.table import Array, CountTable
from align.errors import DataError
from align.evaluation.statistics import CONFIDENCE, RESAMPLES, resampled_sums
from align.types import Result

Coefficient = Literal["percent_agreement", "fleiss_kappa", "alpha_nominal", "alpha_ordinal"]
Level = Literal["nominal", "ordinal"]

_ALL_OF_IT = 1e-12  # agreement by chance this near to 1 is 1, but for rounding


class Undefined(DataError):
    """These votes leave a coefficient without a value; the message says why."""


def percent_agreement(table: CountTable) -> float:
    """Share of the pairs of votes on a unit that are equal, its mean over units: Fleiss' (1971) P.

    Raises:
        Undefined: no unit has two votes.
    """
    return _value("percent_agreement", table)


def fleiss_kappa(table: CountTable) -> float:
    """(P - Pe)/(1 - Pe): agreement beyond that of votes drawn from the overall shares (Fleiss 1971).

    Units may differ in how many voted: a category's share is then the mean over units of its share among
    their votes (Gwet 2014; here of the units with two votes or more).

    Raises:
        Undefined: no unit has two votes, or all votes are equal (0/0).
    """
    return _value("fleiss_kappa", table)


def krippendorff_alpha(table: CountTable, level: Level = "nominal") -> float:
    """1 - Do/De, observed over expected disagreement (Krippendorff 2011); votes may be missing.

    ``ordinal`` takes ``table.categories`` for ranks from low to high: two values differ by the square of
    the number of votes between them, with half of their own.

    Raises:
        Undefined: no unit has two votes, or all of those votes are equal (0/0).
    """
    return _value("alpha_nominal" if level == "nominal" else "alpha_ordinal", table)


def bootstrap(
    coefficient: Coefficient,
    table: CountTable,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Result:
    """A coefficient with the percentile interval of resampled units; ``n`` is the units with two votes.

    A resample in which all votes are equal has no kappa or alpha. Where that happens to more of them than
    the interval leaves out at one end, they could be anywhere, and there is no interval (``exact``); so
    it is with a single unit.

    Raises:
        Undefined: as the coefficient itself.
    """
    value = _value(coefficient, table)
    moments_UM = _moments(coefficient, table.compared_UC())
    units, tail = len(moments_UM), (1 - confidence) / 2
    if units < 2:
        return Result(coefficient, value, units, None, None, "exact")
    sums_RM = resampled_sums(moments_UM, resamples, np.random.default_rng(seed))
    values_R = _from_sums(coefficient, sums_RM, len(table.categories))
    there_R = values_R[~np.isnan(values_R)]
    if resamples - len(there_R) > tail * resamples:
        return Result(coefficient, value, units, None, None, "exact")
    low, high = (float(np.quantile(there_R, level)) for level in (tail, 1 - tail))
    return Result(coefficient, value, units, min(low, value), max(high, value), "bootstrap")


def _value(coefficient: Coefficient, table: CountTable) -> float:
    compared_UC = table.compared_UC()
    if not len(compared_UC):
        raise Undefined(f"{coefficient} compares votes, and no unit has two of them")
    sums_RM = _moments(coefficient, compared_UC).sum(0, keepdims=True)
    value = float(_from_sums(coefficient, sums_RM, len(table.categories))[0])
    if np.isnan(value):
        only = table.categories[int(compared_UC.sum(0).argmax())]
        raise Undefined(f"{coefficient} is 0/0: every vote is {only!r}, so that chance agrees as well")
    return value


def _moments(coefficient: Coefficient, counts_UC: Array) -> Array:
    """What each unit adds to the sums that a coefficient is made of."""
    votes_U1 = counts_UC.sum(-1, keepdims=True)
    if coefficient in ("percent_agreement", "fleiss_kappa"):
        equal_U1 = (counts_UC * (counts_UC - 1)).sum(-1, keepdims=True) / (votes_U1 * (votes_U1 - 1))
        return np.hstack([np.ones_like(votes_U1), equal_U1, counts_UC / votes_U1])
    # Krippendorff's coincidences: pairs of a unit's values, each unit weighing as many as its votes
    pairs_UCC = counts_UC[:, :, None] * (counts_UC[:, None, :] - np.eye(counts_UC.shape[1]))
    moments_UM: Array = (pairs_UCC / (votes_U1[:, :, None] - 1)).reshape(len(counts_UC), -1)
    return moments_UM


def _from_sums(coefficient: Coefficient, sums_RM: Array, categories: int) -> Array:
    """The coefficient of each row of sums; NaN where it is 0/0 (never let out of this file)."""
    if coefficient in ("percent_agreement", "fleiss_kappa"):
        observed_R, shares_RC = sums_RM[:, 1] / sums_RM[:, 0], sums_RM[:, 2:] / sums_RM[:, :1]
        if coefficient == "percent_agreement":
            return observed_R
        chance_R = (shares_RC**2).sum(-1)
        defined_R = chance_R < 1 - _ALL_OF_IT
        return _divided(observed_R - chance_R, 1 - chance_R, defined_R)
    coincidences_RCC = sums_RM.reshape(len(sums_RM), categories, categories)
    totals_RC = coincidences_RCC.sum(-1)
    n_R = totals_RC.sum(-1)
    distances_RCC = _distances(coefficient, totals_RC)
    observed_R = (coincidences_RCC * distances_RCC).sum((1, 2))
    expected_R = (totals_RC[:, :, None] * totals_RC[:, None, :] * distances_RCC).sum((1, 2))
    defined_R = totals_RC.max(-1) < n_R * (1 - _ALL_OF_IT)
    return 1 - _divided((n_R - 1) * observed_R, expected_R, defined_R)


def _distances(coefficient: Coefficient, totals_RC: Array) -> Array:
    """Squared difference of each two values (R, C, C), by the level of measurement."""
    if coefficient == "alpha_nominal":
        return np.broadcast_to(1 - np.eye(totals_RC.shape[1]), (*totals_RC.shape, totals_RC.shape[1]))
    # the votes from c up to k less half of both ends are the difference of their middles' ranks
    middles_RC = totals_RC.cumsum(-1) - totals_RC / 2
    squares: Array = (middles_RC[:, :, None] - middles_RC[:, None, :]) ** 2
    return squares


def _divided(above_R: Array, below_R: Array, defined_R: np.ndarray) -> Array:
    out_R = np.full_like(above_R, np.nan)
    np.divide(above_R, below_R, out=out_R, where=defined_R)
    return out_R
