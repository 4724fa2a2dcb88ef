"""The optimum of a reward with a priced KL: the arithmetic of the distance, and that the stages get there."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.ppo_optimum.runs import METHODS, Method, reached
from experiments.ppo_optimum.task import (
    ONE_TOKEN,
    SHORT,
    Outcomes,
    Task,
    distance,
    optimum,
    outcomes,
    write_policy,
)

COIN = Task("a coin", tokens=2, length=1, beta=0.5, iterations=1)


def test_the_distance_of_a_coin_by_hand() -> None:
    """Reference (1/2, 1/2), rewards (0, log 2 / 2), beta 1/2: the optimum is (1/3, 2/3), Z = 3/2."""
    rewards = np.array([0.0, math.log(2) / 2])
    fair = Outcomes(rewards, np.log([0.5, 0.5]))
    assert np.exp(optimum(COIN, fair)) == pytest.approx([1 / 3, 2 / 3])
    best = Outcomes(rewards, np.log([1 / 3, 2 / 3]))
    assert distance(COIN, fair, best).kl == pytest.approx(0, abs=1e-12)
    assert distance(COIN, fair, best).objective == pytest.approx(0.5 * math.log(1.5))
    still = distance(COIN, fair, fair)
    assert still.kl == pytest.approx(0.5 * math.log(1.5) + 0.5 * math.log(0.75))
    assert still.best - still.objective == pytest.approx(COIN.beta * still.kl)
    assert (still.drift, still.best_drift) == (
        0,
        pytest.approx(math.log(4 / 3) * 2 / 3 + math.log(2 / 3) / 3),
    )


@pytest.mark.parametrize(("task", "count"), [(ONE_TOKEN, 40), (SHORT, 1 + 5 + 5 * 5 * 6)])
def test_every_reply_is_there_once(task: Task, count: int, tmp_path: Path) -> None:
    """Ended by themselves after one and two tokens (5 others before the end), or of the full length."""
    write_policy(task, tmp_path)
    found = outcomes(task, tmp_path)
    assert len(found.logps) == count
    assert float(np.exp(found.logps).sum()) == pytest.approx(1, abs=1e-12)
    assert np.exp(found.logps).std() > 0.3 / count, "far from uniform"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "method", "far"),
    [*((ONE_TOKEN, method, 1.0) for method in METHODS), *((SHORT, method, 0.4) for method in METHODS[:2])],
    ids=lambda one: getattr(one, "name", ""),
)
def test_the_stages_reach_the_optimum(task: Task, method: Method, far: float, tmp_path: Path) -> None:
    run = reached(task, method, seed=0, work=tmp_path)
    assert run.distance.kl < 5e-3
    assert run.distance.best - run.distance.objective < 1e-3
    assert run.distance.drift > far, "it had far to go, in nats"


@pytest.mark.slow
def test_another_price_is_another_optimum(tmp_path: Path) -> None:
    """The bounds can fail: what was trained at a price of 1 is not the optimum at one half."""
    dear = dataclasses.replace(ONE_TOKEN, beta=1.0)
    run = reached(dear, METHODS[1], seed=0, work=tmp_path)
    assert run.within
    assert distance(ONE_TOKEN, run.reference, run.policy).kl > 0.05
