"""What optimisation bought and what it cost: reward gained against drift, a point a policy of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from align.comparison.groups import Group
from align.errors import DataError
from align.evaluation.overoptimisation import Curve, fitted
from align.report.names import measure, subject
from align.types import Result


@dataclass(frozen=True)
class Point:
    """One policy of one run: KL to its reference in nats, and the reward that it gained."""

    group: str
    run: str
    policy: str
    kl: float
    gained: float


@dataclass(frozen=True)
class Frontier:
    """All points by one reward; the curve where at least three drifts above 0 let it be fitted."""

    reward: str
    points: tuple[Point, ...]
    curve: Curve | None

    def furthest(self) -> float:
        """The largest distance sqrt(KL) of a point."""
        return max(math.sqrt(max(0.0, point.kl)) for point in self.points)

    def nearest(self) -> float:
        """The smallest distance sqrt(KL) of a point."""
        return min(math.sqrt(max(0.0, point.kl)) for point in self.points)

    def peak(self) -> tuple[float, float] | None:
        """Distance and reward of the curve's highest point; None unless runs lie on both sides of it."""
        found = self.curve.peak() if self.curve else None
        return found if found and self.nearest() <= found[0] <= self.furthest() else None

    def undominated(self) -> list[Point]:
        """Points than which no other has more reward at no more KL, by KL: the frontier itself."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda one: (one.kl, -one.gained)):
            if not kept or point.gained > kept[-1].gained:
                kept.append(point)
        return kept

    def words(self) -> str:
        """The fitted curve and where it turns down."""
        if self.curve is None:
            return "no curve"
        last = "d" if self.curve.form == "best_of_n" else "log d"
        peak = self.peak()
        turn = f", highest at d = {peak[0]:.2f}" if peak else ", with no turn within what was seen"
        sign = "-" if self.curve.b >= 0 else "+"
        return f"R(d) = d ({self.curve.a:.3g} {sign} {abs(self.curve.b):.3g} {last}){turn}"


def frontiers(groups: Sequence[Group]) -> list[Frontier]:
    """One a reward that has points: the known truth, then the proxy, so that the two can be read together."""
    found: dict[str, list[Point]] = {}
    best_of_n = True
    for group in groups:
        for run in group.runs:
            best_of_n = best_of_n and run.stage == "best_of_n"
            for reward, point in _points(group.label, run.name, run.results):
                found.setdefault(reward, []).append(point)
    return [
        Frontier(reward, tuple(points), _curve(points, best_of_n)) for reward, points in sorted(found.items())
    ]


def _points(group: str, run: str, results: Sequence[Result]) -> list[tuple[str, Point]]:
    by_name = {one.metric: one.value for one in results}
    points = []
    for one in results:
        policy = subject(one)
        kl = by_name.get(f"{policy}/kl")
        reward, _, kind = measure(one).rpartition("_")
        if kl is None or kind not in ("gain", "reward"):
            continue
        # best of 1 is the start, from which best of n gains
        start = by_name.get(f"best_of_1/{reward}_reward") if policy.startswith("best_of_") else None
        if kind == "gain":
            points.append((reward, Point(group, run, policy, kl, one.value)))
        elif start is not None:
            points.append((reward, Point(group, run, policy, kl, one.value - start)))
    return points


def _curve(points: Sequence[Point], best_of_n: bool) -> Curve | None:
    kept = [point for point in points if point.kl > 0]
    try:
        form = "best_of_n" if best_of_n else "rl"
        return fitted(form, [point.kl for point in kept], [point.gained for point in kept])  # type: ignore[arg-type]
    except DataError:
        return None
