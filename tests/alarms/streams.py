"""Lines of made-up runs: what the tests of alarms share."""

from __future__ import annotations

from collections.abc import Iterable

from align.alarms.settings import AlarmSettings
from align.alarms.watch import Alarm, Watch

HEALTHY = {
    "rollout/score": 1.0,
    "rollout/score_std": 1.0,
    "rollout/kl": 3.0,
    "rollout/entropy": 0.5,
    "rollout/length": 25.0,
    "rollout/ended": 1.0,
    "rollout/distinct_2": 0.125,
    "rollout/equal_groups": 0.1,
    "rollout/score_outside": 0.01,
    "policy/clip_fraction": 0.1,
    "value/explained_variance": 0.3,
    "logps/chosen": -13.0,
    "rewards/chosen": 0.0,
    "rewards/margin": 0.0,
    "server/kl": 0.01,
    "server/effective": 0.9,
}
"""A line on which no condition holds, of every kind of run at once."""

SICK: dict[str, dict[str, float]] = {
    "kl_high": {"rollout/kl": 50.1},
    "kl_negative": {"rollout/kl": -0.11},
    "length_explosion": {"rollout/length": 50.0, "rollout/score": 1.11},
    "repetition": {"rollout/distinct_2": 0.0624, "rollout/score": 1.11},
    "entropy_collapse": {"rollout/entropy": 0.049},
    "clip_fraction_high": {"policy/clip_fraction": 0.81},
    "critic_useless": {"value/explained_variance": -0.01},
    "equal_scores": {"rollout/score_std": 0.0},
    "no_reply_ends": {"rollout/ended": 0.02},
    "score_out_of_range": {"rollout/score_outside": 0.21},
    "chosen_displaced": {"logps/chosen": -26.1, "rewards/chosen": -1.31, "rewards/margin": 0.5},
    "server_far": {"server/kl": 0.11},
}
"""What each alarm's condition looks like, over a healthy line."""


def sick(name: str) -> dict[str, float]:
    """A line that shows one alarm's condition and no other's."""
    return HEALTHY | SICK[name]


def watched(
    lines: Iterable[dict[str, float]], settings: AlarmSettings | None = None, watch: Watch | None = None
) -> list[Alarm]:
    """The alarms of a stream; steps count from 1."""
    watch = watch or Watch()
    settings = settings or AlarmSettings()
    return [alarm for step, line in enumerate(lines, start=1) for alarm in watch.look(settings, step, line)]


def steps(alarms: Iterable[Alarm]) -> list[tuple[str, int]]:
    """Name and step of each."""
    return [(alarm.rule.name, alarm.step) for alarm in alarms]
