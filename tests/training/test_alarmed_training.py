"""Alarms in the loop: in the lines and on the console, the same after a resume, and what ``stop`` leaves."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from toy_training import Recorder, Regression, fit, lines, make_model, same_bits, weights

from align.alarms.settings import AlarmSettings
from align.alarms.watch import Watch
from align.errors import AlarmError
from align.settings import TrainingSettings
from align.tracking.metrics import MetricsFile
from align.training import checkpoints
from align.training.update import Step

LONG = TrainingSettings(max_steps=24, batch_size=8, log_every=1, save_every=4, learning_rate=0.05)
OFTEN = AlarmSettings(window=1, outside_limit=0.48)
WARN = AlarmSettings(window=3)
STOP = AlarmSettings(action="stop", window=3)


class Outside(Regression):
    """Beside its error, a share that goes up and down with the items drawn, around 0.48."""

    def __call__(self, items: Sequence[int]) -> Step:
        step = super().__call__(items)
        share = sum(items) / 24
        return dataclasses.replace(
            step, metrics={**step.metrics, "rollout/score_outside": (share, len(items))}
        )


class Unending(Regression):
    """Beside its error, replies that never end."""

    def __call__(self, items: Sequence[int]) -> Step:
        step = super().__call__(items)
        return dataclasses.replace(step, metrics={**step.metrics, "rollout/ended": (0.0, len(items))})


def told(text: str) -> list[str]:
    return [line for line in text.splitlines() if "alarm " in line]


def test_a_run_without_anything_to_watch_says_nothing_of_alarms(tmp_path: Path) -> None:
    summary = fit(tmp_path, settings=LONG)
    assert (summary.alarms, summary.watched) == ({}, 0)
    assert not [name for line in lines(tmp_path) for name in line if "alarms" in name]


def test_alarms_stand_in_lines_tracker_console_and_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the lines say is what a watch over the lines' own shares finds."""
    model, tracker = make_model(), Recorder()
    summary = fit(
        tmp_path, settings=LONG, model=model, objective=Outside(model), alarms=OFTEN, tracker=tracker
    )
    trace = lines(tmp_path)
    watch = Watch()
    expected = [alarm for line in trace for alarm in watch.look(OFTEN, int(line["step"]), line)]
    raised = [int(line["step"]) for line in trace if line.get("alarms/score_out_of_range") == 1.0]
    assert raised == [alarm.step for alarm in expected]
    assert len(raised) > 3
    assert [line["alarms/raised"] for line in trace] == [
        sum(s <= step for s in raised) for step in range(1, 25)
    ]
    assert told(capsys.readouterr().err) == [f"[toy] {alarm}" for alarm in expected]
    assert (summary.alarms, summary.watched) == ({"score_out_of_range": len(raised)}, 24)
    names = ("alarms/raised", "alarms/score_out_of_range")
    mirrored = [{name: line[name] for name in names if name in line} for _, line in tracker.logged]
    assert mirrored == [{name: line[name] for name in names if name in line} for line in trace]


@pytest.mark.parametrize("cut", [4, 8, 12, 20])
def test_a_resumed_run_raises_the_same_alarms_at_the_same_steps(tmp_path: Path, cut: int) -> None:
    """It is killed some steps after its last checkpoint, so that lines are written again."""
    settings = dataclasses.replace(LONG, schedule="constant")

    def sit(name: str, steps: int, **more: object) -> object:
        model = make_model()
        own = dataclasses.replace(settings, max_steps=steps)
        return fit(tmp_path / name, settings=own, model=model, objective=Outside(model), alarms=OFTEN, **more)  # type: ignore[arg-type]

    whole = sit("whole", 24)
    sit("broken", cut + 3)
    last = checkpoints.folder_of(tmp_path / "broken" / "checkpoints", cut + 3)
    last.rename(tmp_path / "aside")
    resumed = sit("broken", 24, resume=True)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert resumed.resumed_from == cut  # type: ignore[attr-defined]
    assert (resumed.alarms, resumed.watched) == (whole.alarms, whole.watched)  # type: ignore[attr-defined]


def test_stop_ends_the_run_at_that_step_and_saves_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third line in a row is that of step 3, which is not one that would be saved otherwise."""
    model = make_model()
    with pytest.raises(AlarmError) as caught:
        fit(tmp_path, settings=LONG, model=model, objective=Unending(model), alarms=STOP)
    assert str(caught.value) == (
        "alarm no_reply_ends (alarms=stop): 0.0% of the replies end by themselves; step 3 of 24 is "
        f"finished and saved in {tmp_path / 'checkpoints'}. resume=true goes on from there, "
        "with alarms=warn past further alarms; another run.dir starts anew"
    )
    assert checkpoints.steps_in(tmp_path / "checkpoints") == [3]
    assert lines(tmp_path)[-1]["alarms/no_reply_ends"] == 1.0
    assert len(told(capsys.readouterr().err)) == 1


@pytest.mark.parametrize("again", [STOP, WARN])
def test_a_stopped_run_goes_on_and_the_same_episode_does_not_stop_it_again(
    tmp_path: Path, again: AlarmSettings
) -> None:
    models = [make_model() for _ in range(3)]
    whole, stopped, resumed = models
    fit(tmp_path / "whole", settings=LONG, model=whole, objective=Unending(whole), alarms=WARN)
    with pytest.raises(AlarmError):
        fit(tmp_path / "run", settings=LONG, model=stopped, objective=Unending(stopped), alarms=STOP)
    summary = fit(
        tmp_path / "run", settings=LONG, model=resumed, objective=Unending(resumed), alarms=again, resume=True
    )
    assert (summary.steps, summary.resumed_from, summary.alarms) == (24, 3, {"no_reply_ends": 1})
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert same_bits(weights(resumed), weights(whole))


def test_an_alarm_at_the_last_step_stops_too(tmp_path: Path) -> None:
    model = make_model()
    three = dataclasses.replace(LONG, max_steps=3)
    with pytest.raises(AlarmError, match="step 3 of 3"):
        fit(tmp_path, settings=three, model=model, objective=Unending(model), alarms=STOP)
    summary = fit(tmp_path, settings=three, model=model, objective=Unending(model), alarms=STOP, resume=True)
    assert (summary.steps, summary.alarms) == (3, {"no_reply_ends": 1})


def test_an_alarm_goes_before_a_sigterm_in_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler starts a terminated run again, which would take it past the alarm unseen."""
    write = MetricsFile.write

    def write_and_signal(self: MetricsFile, step: int, values: Mapping[str, float]) -> None:
        write(self, step, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MetricsFile, "write", write_and_signal)
    model = make_model()
    with pytest.raises(AlarmError, match="step 3 of 24"):
        fit(tmp_path, settings=LONG, model=model, objective=Unending(model), alarms=STOP)
    assert checkpoints.steps_in(tmp_path / "checkpoints") == [3]
