"""Episodes, what is left out, what is written down, and the state that a checkpoint holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import HEALTHY, SICK, sick, steps, watched

from align.alarms.settings import AlarmSettings
from align.alarms.watch import Watch, counted
from align.types import Result

BAD = sick("kl_high")


def test_one_odd_line_raises_nothing() -> None:
    assert watched(([HEALTHY] * 3 + [BAD]) * 20) == []


def test_an_episode_is_one_alarm_though_it_flickers() -> None:
    """It is over when five lines in a row were well: four are a flicker, five end it."""
    flickering = [BAD] * 5 + ([HEALTHY] * 4 + [BAD]) * 6
    assert steps(watched(flickering)) == [("kl_high", 5)]
    watch = Watch()
    assert steps(watched([BAD] * 5 + [HEALTHY] * 5 + [BAD] * 9, watch=watch)) == [
        ("kl_high", 5),
        ("kl_high", 15),
    ]
    assert watch.counts() == {"kl_high": 2}


def test_lines_without_its_metrics_are_not_judged() -> None:
    """A line of another kind (a look at validation) neither breaks a row nor counts in it."""
    other = {"validation": 0.5, "loss": 1.0}
    watch = Watch()
    assert steps(watched([BAD, other, BAD, BAD, other, BAD, BAD], watch=watch)) == [("kl_high", 7)]
    assert watch.lines == 5


def test_each_condition_is_judged_for_itself() -> None:
    both = HEALTHY | SICK["kl_high"] | SICK["clip_fraction_high"]
    assert steps(watched([BAD] * 2 + [both] * 5)) == [("kl_high", 5), ("clip_fraction_high", 7)]


def test_the_start_is_the_mean_of_the_first_lines_that_have_the_metric() -> None:
    """Entropies 0.2, 0.4, 0.6: a mean of 0.4, and 0.041 is above a tenth of it."""
    start = [{"loss": 1.0}, *[{"rollout/entropy": entropy} for entropy in (0.2, 0.4, 0.6)]]
    assert watched([*start, *[{"rollout/entropy": 0.041}] * 9]) == []
    assert steps(watched([*start, *[{"rollout/entropy": 0.039}] * 9])) == [("entropy_collapse", 9)]


def test_nothing_is_compared_with_a_start_that_is_not_whole() -> None:
    assert watched([sick("entropy_collapse")] * 50) == []  # it began like that


def test_ignored_alarms_are_not_judged() -> None:
    watch = Watch()
    assert watched([BAD] * 9, AlarmSettings(ignored=("kl_high",)), watch) == []
    assert "kl_high" not in watch.tallies
    alone = {"rollout/ended": 0.0}
    watch = Watch()
    assert watched([alone] * 9, AlarmSettings(ignored=("no_reply_ends",)), watch) == []
    assert (watch.lines, watch.marks([])) == (0, {})


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        (AlarmSettings(), False),
        (AlarmSettings(action="stop"), True),
        (AlarmSettings(action="stop", only_warn=("kl_high",)), False),
    ],
)
def test_what_stops_a_run(settings: AlarmSettings, stops: bool) -> None:
    (alarm,) = watched([BAD] * 5, settings)
    assert alarm.stops is stops


def test_displacement_ends_no_run_unless_asked() -> None:
    lines = [HEALTHY] * 3 + [sick("chosen_displaced")] * 5
    (alarm,) = watched(lines, AlarmSettings(action="stop"))
    assert not alarm.stops
    (alarm,) = watched(lines, AlarmSettings(action="stop", only_warn=()))
    assert alarm.stops


def test_what_a_line_says_of_alarms() -> None:
    watch, settings = Watch(), AlarmSettings(window=2)
    marks = [watch.marks(watch.look(settings, step, line)) for step, line in
             enumerate([{"loss": 1.0}, HEALTHY, BAD, BAD, BAD, HEALTHY], start=1)]  # fmt: skip
    none, one = {"alarms/raised": 0.0}, {"alarms/raised": 1.0}
    assert marks == [{}, none, none, one | {"alarms/kl_high": 1.0}, one, one]


def test_what_results_say_of_alarms() -> None:
    assert counted("ppo", {"kl_high": 2, "repetition": 1}, 40) == [
        Result("ppo/alarms", 3.0, 40, None, None, "exact"),
        Result("ppo/alarms/kl_high", 2.0, 40, None, None, "exact"),
        Result("ppo/alarms/repetition", 1.0, 40, None, None, "exact"),
    ]
    assert counted("dpo", {}, 13) == [Result("dpo/alarms", 0.0, 13, None, None, "exact")]
    assert counted("sft", {}, 0) == []


LINES = st.lists(
    st.sampled_from([HEALTHY, *map(sick, SICK), {"loss": 1.0}, HEALTHY | {"rollout/entropy": 0.1 + 0.2}]),
    min_size=1,
    max_size=60,
)


@given(lines=LINES, cut=st.integers(0, 60), window=st.integers(1, 3))
def test_a_watch_goes_on_from_json_as_if_unbroken(
    lines: list[dict[str, float]], cut: int, window: int
) -> None:
    settings = AlarmSettings(window=window, patience=window + 1, baseline=2)
    unbroken = Watch()
    expected = watched(lines, settings, unbroken)
    before = Watch()
    found = watched(lines[:cut], settings, before)
    after = Watch.of(json.loads(json.dumps(before.plain(), allow_nan=False)))
    assert after == before
    for step, line in enumerate(lines[cut:], start=cut + 1):
        found += after.look(settings, step, line)
    assert found == expected
    assert after == unbroken


def test_what_is_remembered_stays_small() -> None:
    watch = Watch()
    watched([HEALTHY, *map(sick, SICK)] * 100, watch=watch)
    assert len(json.dumps(watch.plain())) < 3000
