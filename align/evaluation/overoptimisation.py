"""Gold reward against the distance from where optimisation began, and the curves fitted to it. Numpy only.

Gao, Schulman and Hilton (2022), "Scaling laws for reward model overoptimization": with d = sqrt(KL(policy ||
start)) the gold reward gained is R(d) = d (a - b d) under best of n and R(d) = d (a - b log d) under
reinforcement learning (their equations 1 and 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Form = Literal["best_of_n", "rl"]


@dataclass(frozen=True)
class Curve:
    """One fitted curve: R(d) = d (a - b d) or d (a - b log d), d in square roots of nats."""

    form: Form
    a: float
    b: float
    error: float
    """Root of the mean squared residual, over the points less the two coefficients, in units of reward."""

    def at(self, d: ArrayLike) -> NDArray[np.float64]:
        """Reward gained at distances d > 0."""
        distances = np.asarray(d, dtype=np.float64)
        turned = distances if self.form == "best_of_n" else np.log(distances)
        gained: NDArray[np.float64] = distances * (self.a - self.b * turned)
        return gained

    def peak(self) -> tuple[float, float] | None:
        """Distance and reward where the curve turns down; None where it does not (b <= 0, or a <= 0 for
        best of n, which then falls from the start)."""
        if self.b <= 0 or (self.form == "best_of_n" and self.a <= 0):
            return None
        d = self.a / (2 * self.b) if self.form == "best_of_n" else math.exp(self.a / self.b - 1)
        return d, float(self.at(d))


def fitted(form: Form, kl: ArrayLike, gained: ArrayLike) -> Curve:
    """Least squares over points of KL (nats, above 0) and reward gained: both forms are linear in a and b.

    Raises:
        DataError: fewer than three distances (two coefficients fit any two points), numbers that differ, or a
            KL of 0 or less.
        NonFiniteError: a number is NaN or infinite.
    """
    nats, y = finite(kl, f"{form} curve (KL)"), finite(gained, f"{form} curve (reward)")
    if len(nats) != len(y):
        raise DataError(f"{form} curve: {len(nats)} KLs, but {len(y)} rewards")
    if nats.min() <= 0:
        raise DataError(f"{form} curve: KL lies above 0, got {nats.min():g}")
    if len(np.unique(nats)) < 3:
        raise DataError(f"{form} curve: takes three distances or more, got {len(np.unique(nats))}")
    d = np.sqrt(nats)
    design = np.stack([d, -d * (d if form == "best_of_n" else np.log(d))], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - design @ np.array([a, b])
    return Curve(form, float(a), float(b), math.sqrt(float((residuals**2).sum()) / (len(y) - 2)))
