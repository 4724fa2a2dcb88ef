"""The first lines say what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_sweep import PROMPTS, evaluated, made_run, scores, sweep, trained

from align.comparison.figures_rewards import overoptimisation_figure
from align.comparison.found import read_runs, run_directories
from align.comparison.frontier import Frontier, Point
from align.comparison.groups import cells, grouped
from align.comparison.in_short import in_short, title_of
from align.comparison.whole import Comparison, compared
from align.evaluation.overoptimisation import fitted
from align.settings import CompareSettings
from align.types import Result


def _compared(folder: Path) -> Comparison:
    runs, left_out = read_runs(run_directories([str(folder)]))
    return compared(runs, left_out, CompareSettings())


def test_what_is_sure_is_named(tmp_path: Path) -> None:
    found = _compared(sweep(tmp_path))
    assert title_of(found) == "evaluate: loss.beta (2 settings, 3 runs each)"
    told = in_short(found)
    assert told[0] == "dpo: gold reward gained lies between 1.000 (loss.beta=0.5) and 5.000 (loss.beta=0.1)."
    assert told[1].startswith(
        "Of 3 pairs on the same prompts, 3 differ by gold reward over prompts and over seeds"
    )
    assert "loss.beta=0.1 above loss.beta=0.5 by 4.000" in told[1]


def test_single_runs_are_never_sure_of_other_seeds(tmp_path: Path) -> None:
    for name, mean in (("a", 3.0), ("b", 1.0)):
        model = trained(tmp_path / f"d{name}", mean, 1)
        evaluated(tmp_path / "e" / name, model, scores(mean, ord(name)))
    told = " ".join(in_short(_compared(tmp_path / "e")))
    assert "0 differ by gold reward over prompts and over seeds" in told
    assert "which other seeds may not repeat" in told


def test_nothing_shown_is_said_so(tmp_path: Path) -> None:
    for name, beta in (("a", 0.1), ("b", 0.5)):
        model = trained(tmp_path / f"d{name}", beta, 1)
        evaluated(tmp_path / "e" / name, model, scores(0.0, ord(name)))
    assert "No difference by gold reward is shown, of 3 pairs on the same prompts." in in_short(
        _compared(tmp_path / "e")
    )


def _frontier(reward: str, b: float, distances: Sequence[float] = (1, 2, 3, 4)) -> Frontier:
    """Points on d (2 - b d)."""
    points = tuple(Point("g", str(d), "p", d * d, d * (2 - b * d)) for d in distances)
    return Frontier(reward, points, fitted("best_of_n", [p.kl for p in points], [p.gained for p in points]))


def test_a_turn_is_told_only_where_it_was_seen() -> None:
    """d (2 - 0.4 d) is highest at 2.5, d (2 - 0.1 d) at 10: beyond the furthest run."""
    seen, beyond = _frontier("gold", 0.4), _frontier("proxy", 0.1)
    peak = seen.peak()
    assert peak is not None
    assert peak[0] == pytest.approx(2.5)
    assert beyond.peak() is None
    assert "no turn within what was seen" in beyond.words()
    assert _frontier("gold", 0.4, [2.6, 2.8, 3]).peak() is None, "no run lies before it"
    drawn = overoptimisation_figure([seen, beyond])
    assert drawn.title == "Proxy against gold"
    assert len(drawn.rows) == 8
    left, right = drawn.figure.axes
    # zero stands at the same height on both scales
    heights = [ax.transData.transform((0, 0))[1] for ax in (left, right)]
    assert heights[0] == pytest.approx(heights[1])


def test_the_frontier_is_what_no_other_beats_at_as_little_drift() -> None:
    points = [
        Point("g", "", "", kl, gained) for kl, gained in ((1, 1.0), (2, 0.5), (3, 2.0), (3, 1.5), (4, 2.0))
    ]
    kept = Frontier("gold", tuple(points), None).undominated()
    assert [(one.kl, one.gained) for one in kept] == [(1, 1.0), (3, 2.0)]


def test_shares_over_seeds_end_at_nought_and_one(tmp_path: Path) -> None:
    """Two seeds with 0.9 and 1: Student's interval reaches past 1, a share does not; a reward may."""
    for seed, value in ((1, 0.9), (2, 1.0)):
        results = [
            Result("dpo/gold_win_rate", value, PROMPTS, 0.8, 1.0, "wilson"),
            Result("dpo/gold_reward", value, PROMPTS, 0.8, 1.0, "bootstrap"),
        ]
        made_run(tmp_path / str(seed), {"stage": {"name": "evaluate"}, "seed": seed}, results)
    table = cells(grouped(read_runs(run_directories([str(tmp_path)]))[0])[0])
    (share,) = table["dpo/gold_win_rate"].values()
    (reward,) = table["dpo/gold_reward"].values()
    assert (share.result.ci_low, share.result.ci_high) == (pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3), 1.0)
    assert reward.result.ci_high == pytest.approx(0.95 + 12.706 * 0.05, abs=1e-3)
