"""What a training run watches for (section ``alarms``); imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from align.config import Range
from align.settings import Fraction, NonNegative, Positive, PositiveInt

AlarmName = Literal[
    "kl_high",
    "kl_negative",
    "length_explosion",
    "repetition",
    "entropy_collapse",
    "clip_fraction_high",
    "critic_useless",
    "equal_scores",
    "no_reply_ends",
    "score_out_of_range",
    "chosen_displaced",
    "server_far",
]
"""The alarms by name; ``align/alarms/`` says what raises each."""


@dataclass(frozen=True)
class AlarmSettings:
    """What a training run watches for, and what it does then. Lines are those of ``metrics.jsonl``."""

    action: Literal["warn", "stop"] = "warn"
    """``warn`` says it and goes on; ``stop`` saves the step and ends the run."""
    only_warn: tuple[AlarmName, ...] = ("chosen_displaced",)
    """Alarms that end no run: by default the one that sound runs raise too."""
    ignored: tuple[AlarmName, ...] = ()
    """Alarms that are not watched for."""
    baseline: PositiveInt = 3
    """First lines whose mean later ones are compared with."""
    window: PositiveInt = 5
    """Lines in a row on which something must hold before it is an alarm, and not hold before it is over."""
    patience: PositiveInt = 10
    """The same for what a sound run does for some lines: a negative KL, a critic that has yet to learn."""
    kl_limit: Positive = 50.0
    """Nats a reply that the policy may drift from the reference."""
    kl_noise: NonNegative = 0.1
    """Nats a reply that an estimated KL may lie below zero."""
    length_growth: Annotated[float, Range(low=1, low_open=True)] = 2.0
    """Times that replies may become as long as they were."""
    distinct_share: Fraction = 0.5
    """Share of the distinct token pairs that replies must keep."""
    score_rise: NonNegative = 0.1
    """Standard deviations of the first scores by which the mean score has risen; less is noise."""
    entropy_share: Fraction = 0.1
    """Share of its entropy that the policy must keep."""
    clip_limit: Fraction = 0.8
    """Share of the ratios that may be clipped."""
    value_floor: Annotated[float, Range(high=1, high_open=True)] = 0.0
    """Share of the returns' variance that the critic must explain."""
    equal_limit: Fraction = 0.95
    """Share of the prompts whose replies may all score the same."""
    ended_limit: Fraction = 0.02
    """Share of replies that must end by themselves."""
    outside_limit: Fraction = 0.2
    """Share of scores that may lie outside the reward model's range."""
    displacement: Positive = 1.0
    """Share of their own log-probability that chosen replies may lose: 1 is twice the nats."""
    server_limit: Positive = 0.1
    """Nats a token that the policy may lie from the server that writes its replies."""
