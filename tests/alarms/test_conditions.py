"""Each alarm on a stream that shows its condition, and on streams that come up to its limits."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from streams import HEALTHY, SICK, sick, steps, watched

from align.alarms.rules import RULES
from align.alarms.settings import AlarmName, AlarmSettings

NAMES = [rule.name for rule in RULES]
LONG = {"kl_negative", "critic_useless"}


def test_the_names_are_those_of_the_settings() -> None:
    assert tuple(NAMES) == get_args(AlarmName)
    assert set(NAMES) == set(SICK)


def test_a_healthy_run_raises_nothing() -> None:
    assert watched([HEALTHY] * 50) == []


@pytest.mark.parametrize("name", NAMES)
def test_it_is_raised_when_its_condition_has_held_long_enough(name: str) -> None:
    """Three lines make the start; then five lines in a row, or ten for what sound runs do for a while."""
    needed = 10 if name in LONG else 5
    assert steps(watched([HEALTHY] * 3 + [sick(name)] * 30)) == [(name, 3 + needed)]
    assert watched([HEALTHY] * 3 + [sick(name)] * (needed - 1) + [HEALTHY] + [sick(name)] * 4) == []


@pytest.mark.parametrize(
    "line",
    [
        {"rollout/kl": 50.0},
        {"rollout/kl": -0.1},
        {"rollout/length": 49.9, "rollout/score": 5.0},
        {"rollout/length": 90.0, "rollout/score": 1.1},
        {"rollout/distinct_2": 0.0625, "rollout/score": 5.0},
        {"rollout/distinct_2": 0.01, "rollout/score": 1.1},
        {"rollout/entropy": 0.05},
        {"policy/clip_fraction": 0.8},
        {"value/explained_variance": 0.0},
        {"rollout/equal_groups": 0.95},
        {"rollout/score_std": 2e-6},
        {"rollout/ended": 0.021},
        {"rollout/score_outside": 0.2},
        {"logps/chosen": -26.0, "rewards/chosen": -1.3, "rewards/margin": 0.5},
        {"logps/chosen": -40.0, "rewards/chosen": 0.0, "rewards/margin": 0.5},
        {"logps/chosen": -40.0, "rewards/chosen": -2.7, "rewards/margin": 0.0},
    ],
    ids=str,
)
def test_at_its_limit_it_is_silent(line: dict[str, float]) -> None:
    assert watched([HEALTHY] * 3 + [HEALTHY | line] * 30) == []


def test_replies_of_a_few_tokens_may_double() -> None:
    few = HEALTHY | {"rollout/length": 4.0}
    better = {"rollout/score": 9.0}
    assert watched([few] * 3 + [few | better | {"rollout/length": 13.9}] * 9) == []
    grown = watched([few] * 3 + [few | better | {"rollout/length": 14.0}] * 9)
    assert steps(grown) == [("length_explosion", 8)]


def test_a_nearly_certain_reply_may_lose_a_nat() -> None:
    certain = HEALTHY | {"logps/chosen": -0.1}
    worse = certain | {"rewards/chosen": -0.1, "rewards/margin": 0.5}
    assert watched([certain] * 3 + [worse | {"logps/chosen": -1.09}] * 9) == []
    assert steps(watched([certain] * 3 + [worse | {"logps/chosen": -1.11}] * 9)) == [("chosen_displaced", 8)]


def test_equal_scores_are_seen_in_groups_and_whatever_their_size() -> None:
    (alarm,) = watched([HEALTHY | {"rollout/equal_groups": 1.0}] * 5)
    assert alarm.seen == "100.0% of the prompts have replies that all score the same"
    large = HEALTHY | {"rollout/score": 2000.0, "rollout/score_std": 1e-3}  # float32 rounding of 2000
    (alarm,) = watched([large] * 5)
    assert alarm.seen == "all replies of an iteration score 2000"


def test_what_is_seen_is_told_with_its_numbers_cause_and_remedy() -> None:
    start = [HEALTHY | {"rollout/length": length} for length in (20.0, 25.0, 30.0)]
    (alarm,) = watched([*start, *[HEALTHY | {"rollout/length": 61.5, "rollout/score": 2.5}] * 5])
    assert str(alarm) == (
        "alarm length_explosion at step 8: replies grew from 25 to 61.5 tokens "
        "while the score rose from 1 to 2.5 "
        f"(5 lines in a row). Usual cause: {alarm.rule.cause}. Try: {alarm.rule.attempt}."
    )


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if len(rule.thresholds) > 1], ids=lambda rule: str(rule.name)
)
def test_a_limit_that_a_rule_names_is_the_one_it_looks_at(rule) -> None:  # type: ignore[no-untyped-def]
    """With the limit moved far out of the way, the same stream raises nothing."""
    far = {
        "kl_limit": 1e6,
        "kl_noise": 1e6,
        "length_growth": 1e6,
        "distinct_share": 0.0,
        "entropy_share": 0.0,
        "clip_limit": 0.999,
        "value_floor": -1e6,
        "ended_limit": 0.0,
        "outside_limit": 0.999,
        "displacement": 1e6,
        "server_limit": 1e6,
    }
    lines = [HEALTHY] * 3 + [sick(rule.name)] * 30
    if rule.name == "equal_scores":
        lines = [HEALTHY | {"rollout/equal_groups": 0.97}] * 30
        far["equal_limit"] = 0.99
    assert steps(watched(lines))
    own = next(name for name in rule.thresholds if name in far)
    assert watched(lines, AlarmSettings(**{own: far[own]})) == []  # type: ignore[arg-type]
    assert watched(lines, AlarmSettings(window=50, patience=50)) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_noisy_run_that_learns_raises_nothing(seed: int) -> None:
    """64 replies an iteration: the estimated KL has variance 2 KL / 64, other means that of their replies.

    The KL grows to 15 nats, replies lengthen by half, entropy falls to a third, the critic starts below zero.
    """
    draw = random.Random(seed)
    lines = []
    for step in range(120):
        done = step / 120
        kl = 15.0 * done
        lines.append(
            {
                "rollout/kl": draw.gauss(kl, (2 * kl / 64) ** 0.5) + draw.gauss(0, 0.03),
                "rollout/score": draw.gauss(2 * done, 1 / 8),
                "rollout/score_std": draw.uniform(0.8, 1.2),
                "rollout/length": draw.gauss(50 + 25 * done, 20 / 8),
                "rollout/ended": draw.uniform(0.7, 1.0),
                "rollout/distinct_2": draw.gauss(0.4 - 0.1 * done, 0.02),
                "rollout/entropy": draw.gauss(0.6 - 0.4 * done, 0.03),
                "rollout/score_outside": draw.uniform(0, 0.15),
                "policy/clip_fraction": draw.uniform(0.05, 0.35),
                "value/explained_variance": draw.gauss(-0.5 if step < 6 else 0.3, 0.2),
                "logps/chosen": draw.gauss(-200 - 60 * done, 60 / 8),
                "rewards/chosen": draw.gauss(-6 * done, 0.3),
                "rewards/margin": draw.gauss(2 * done, 0.3),
            }
        )
    assert watched(lines) == []
