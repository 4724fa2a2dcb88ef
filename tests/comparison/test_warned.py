"""Alarms of many runs: which, when, and who was not watched."""

from __future__ import annotations

import json
from pathlib import Path

from made_sweep import trained

from align.comparison.curves import Series, curves_over_drift, series_of, training_curves
from align.comparison.figures_training import alarms_figure
from align.comparison.found import read_runs, run_directories
from align.comparison.groups import Group, grouped
from align.comparison.warned import alarms_of


def _write(place: Path, lines: list[dict[str, float]]) -> None:
    (place / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _world(folder: Path) -> tuple[list[Group], dict[str, list[Series]]]:
    """Beta 0.1: two alarms among 2,000 lines of seed 1, none of seed 2; beta 0.5: nobody watched."""
    for beta, seed in ((0.1, 1), (0.1, 2), (0.5, 1)):
        place = trained(folder / f"{beta}_{seed}", beta, seed)
        watched = {"alarms/raised": 0.0} if beta == 0.1 else {}
        lines = [
            {"step": step, "loss": 1.0, "rollout/kl": step / 100, "rollout/score": 2 * step / 100, **watched}
            for step in range(1, 2001)
        ]
        if (beta, seed) == (0.1, 1):
            lines[776] |= {"alarms/raised": 1.0, "alarms/kl_high": 1.0}
            lines[1234] |= {"alarms/raised": 2.0, "alarms/entropy_collapse": 1.0}
        _write(place, lines)
    groups = grouped(read_runs(run_directories([str(folder)]))[0])[0]
    return groups, series_of(groups)


def test_alarms_are_found_in_thinned_runs_and_silence_of_the_unwatched_is_told(tmp_path: Path) -> None:
    groups, series = _world(tmp_path)
    found = alarms_of(groups, series)
    assert [(one.group, one.run, one.alarm, one.step, one.last) for one in found.raised] == [
        ("loss.beta=0.1", "0.1_1", "kl_high", 777, 2000),
        ("loss.beta=0.1", "0.1_1", "entropy_collapse", 1235, 2000),
    ]
    assert (found.watched, found.unwatched) == (2, ("0.5_1",))
    drawn = alarms_figure(found)
    assert drawn.rows[0] == ("loss.beta=0.1", "0.1_1", "kl_high", 777, 2000)
    assert not any("alarms" in name for name in training_curves(series))


def test_curves_over_drift_pair_the_kl_and_the_metric_of_each_step(tmp_path: Path) -> None:
    """The score is twice the KL at every step."""
    _, series = _world(tmp_path)
    curves = curves_over_drift(series)
    assert list(curves) == ["rollout/score"]
    for band in curves["rollout/score"]:
        assert band.drift is not None
        assert len(band.drift) == len(band.steps)
        assert [2 * kl for kl in band.drift] == list(band.mean)


def test_runs_of_different_lengths_share_their_steps(tmp_path: Path) -> None:
    """One seed stopped early: the band is over the steps that both have, and is not lost."""
    for seed, count in ((1, 2000), (2, 900)):
        place = trained(tmp_path / str(seed), 0.1, seed)
        _write(place, [{"step": step, "loss": float(step)} for step in range(1, count + 1)])
    (band,) = training_curves(series_of(grouped(read_runs(run_directories([str(tmp_path)]))[0])[0]))["loss"]
    assert len(band.steps) > 50
    assert max(band.steps) <= 900
    assert band.spread is not None
    assert set(band.spread) == {0.0}
