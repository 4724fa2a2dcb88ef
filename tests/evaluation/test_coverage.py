"""How often a 95 % interval holds the truth, by simulation. 1,000 draws tell 0.95 from 0.93 and 0.97."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from align.evaluation import statistics as stats
from align.types import Result

DRAWS = 1000


def _coverage(truth: float, draw: Callable[[np.random.Generator], Result]) -> float:
    rng = np.random.default_rng(0)
    results = [draw(rng) for _ in range(DRAWS)]
    return float(np.mean([(one.ci_low or 0.0) <= truth <= (one.ci_high or 0.0) for one in results]))


@pytest.mark.parametrize(("p", "n"), [(0.62, 190), (0.9, 100), (0.5, 400)])
def test_proportions(p: float, n: int) -> None:
    assert 0.93 <= _coverage(p, lambda rng: stats.proportion("p", rng.random(n) < p)) <= 0.97


@pytest.mark.parametrize(("win", "tie"), [(0.6, 0.2), (0.3, 0.65), (0.8, 0.15)])
def test_win_rates_with_ties(win: float, tie: float) -> None:
    def draw(rng: np.random.Generator) -> Result:
        ours = rng.choice([1.0, 0.0, -1.0], p=[win, tie, 1 - win - tie], size=150)
        return stats.paired_win_rate("w", ours, np.zeros(150))

    assert 0.93 <= _coverage(win + tie / 2, draw) <= 0.97


def test_accuracy_where_prompts_recur() -> None:
    """80 prompts of 1 to 5 pairs each; a prompt's own accuracy is uniform in [0.4, 1]: pairs go together."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        keys = np.repeat(np.arange(80), rng.integers(1, 6, size=80))
        return (rng.random(len(keys)) < rng.uniform(0.4, 1.0, size=80)[keys]).astype(float), keys.tolist()

    assert 0.93 <= _coverage(0.7, lambda rng: stats.proportion("p", *draw(rng))) <= 0.97


@pytest.mark.medium
@pytest.mark.parametrize(
    ("shape", "n"), [("normal", 100), ("exponential", 100), ("exponential", 250), ("gamma", 250)]
)
def test_means(shape: str, n: int) -> None:
    """Symmetric, skewed (2) and KL-like (gamma of shape 2, skewness 1.4) values."""
    draws: dict[str, tuple[float, Callable[[np.random.Generator], np.ndarray]]] = {
        "normal": (1.0, lambda rng: rng.normal(1.0, 2.0, size=n)),
        "exponential": (1.0, lambda rng: rng.exponential(size=n)),
        "gamma": (2.0, lambda rng: rng.gamma(2.0, size=n)),
    }
    truth, sample = draws[shape]
    assert 0.93 <= _coverage(truth, lambda rng: _mean(sample(rng))) <= 0.97


@pytest.mark.medium
def test_clustered_means() -> None:
    """60 prompts of 1 to 4 replies; the naive interval would fall far short (asserted too)."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        keys = np.repeat(np.arange(60), rng.integers(1, 5, size=60))
        return 1.0 + rng.normal(size=60)[keys] + 0.3 * rng.normal(size=len(keys)), keys.tolist()

    assert 0.93 <= _coverage(1.0, lambda rng: _mean(*draw(rng))) <= 0.97
    assert _coverage(1.0, lambda rng: _mean(draw(rng)[0])) < 0.9


def _mean(values: np.ndarray, clusters: list[int] | None = None) -> Result:
    seed = int(values[0] * 1e9) % 2**32  # one seed for all draws would make their errors alike
    interval = stats.mean_interval(values, clusters, seed=seed, resamples=500)
    return Result("m", float(values.mean()), len(values), interval.low, interval.high, "bootstrap")
