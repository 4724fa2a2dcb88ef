"""Figures hold the data they are drawn from: every series is read back from the axes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_drawn import every_metric

from align.errors import DataError
from align.report import figures
from align.report.figures import pipeline_figure, reward_figure, training_figure
from align.report.files import write_results
from align.types import Result

ACCURACY = Result("reward/accuracy", 0.8, 400, 0.757, 0.836, "wilson")
BAYES = Result("reward/bayes_accuracy", 0.85, 400, 0.84, 0.86, "bootstrap")
WIN = Result("dpo/gold_win_rate", 0.75, 200, 0.686, 0.805, "wilson")
RESULTS = [
    ACCURACY,
    BAYES,
    Result("sft/gold_reward", 1.0, 3, 0.5, 1.5, "bootstrap"),
    Result("sft/length", 17.0, 3, 16.0, 18.0, "bootstrap"),
    Result("dpo/gold_reward", 2.0, 3, 1.5, 2.5, "bootstrap"),
    WIN,
    Result("dpo/kl", 7.06, 200, 6.5, 7.75, "bootstrap"),
]
SCORES = {"sft": [0.0, 1.0, 2.0], "dpo": [1.0, 2.0, 3.0]}


SAMPLES = [
    {"prompt": [], "replies": {name: {"text": "", "scores": {"gold": SCORES[name][n]}} for name in SCORES}}
    for n in range(3)
]


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three training steps of four logged points each, and an evaluation."""
    tmp_path = tmp_path_factory.mktemp("runs")
    for index, step in enumerate(("sft", "reward", "dpo")):
        rows = [{"step": 10 * n, "loss": index + 1 / n, "learning_rate": 0.1} for n in range(1, 5)]
        rows = [row | {"tokens": 9, "fill_rate": 0.9, "mfu": 0.5, "time_share/data": 0.1} for row in rows]
        rows[1] |= {"validation": 0.5}
        rows[3] |= {"validation": 0.75, "accuracy": 0.7}
        (tmp_path / step).mkdir()
        (tmp_path / step / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {step: tmp_path / step for step in ("sft", "reward", "dpo", "evaluate")}


@pytest.fixture(scope="module")
def drawn(run_dirs: dict[str, Path]) -> tuple[Any, Path]:
    """The pipeline's figure and the file that it was written to."""
    path = run_dirs["sft"].parent / "figures" / "pipeline.png"
    return pipeline_figure(run_dirs, RESULTS, SAMPLES, path), path


def _size(path: Path) -> tuple[int, int]:
    """Width and height from the PNG's header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def _panel(figure: Any, title: str) -> Any:
    return next(ax for ax in figure.axes if ax.get_title(loc="left") == title)


def _points(line: Any) -> list[tuple[float, float]]:
    return [tuple(point) for point in np.asarray(line.get_xydata()).tolist()]


def test_pipeline_figure_is_one_page_of_six(drawn: tuple[Any, Path]) -> None:
    """Three columns of 3.4 inches and two rows of 2.7, at 150 dots an inch."""
    figure, path = drawn
    assert _size(path) == (1530, 810)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "sft: loss",
        "reward: loss",
        "dpo: loss",
        "reward model: accuracy",
        "gold reward",
        "win rate against sft",
    ]


def test_curves_are_the_lines_of_metrics(drawn: tuple[Any, Path]) -> None:
    (training,) = _panel(drawn[0], "reward: loss").lines
    assert _points(training) == [(10, 2.0), (20, 1.5), (30, 1 + 1 / 3), (40, 1.25)]


def test_a_step_that_samples_is_drawn_by_its_score(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": 9.0, "rollout/score": float(n)} for n in range(1, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    figure = pipeline_figure({"ppo": tmp_path}, [], [], tmp_path / "p.png")
    (curve,) = _panel(figure, "ppo: score of its replies").lines
    assert _points(curve) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_accuracy_stands_beside_chance_and_the_limit(drawn: tuple[Any, Path]) -> None:
    ax = _panel(drawn[0], "reward model: accuracy")
    interval, dot, chance, limit = ax.lines
    assert _points(interval) == [(0.757, 0), (0.836, 0)]
    assert _points(dot) == [(0.8, 0)]
    assert (chance.get_xdata()[0], limit.get_xdata()[0]) == (0.5, 0.85)
    assert {"0.800", "chance", "best possible 0.850"} == {text.get_text() for text in ax.texts}
    low, high = ax.get_xlim()
    assert low < 0.5 < 0.85 < high


def test_histograms_count_every_reply(drawn: tuple[Any, Path]) -> None:
    """Same bins for both; the filled outline of each covers three replies; means and intervals drawn."""
    ax = _panel(drawn[0], "gold reward")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sft", "dpo"]
    means = [line.get_xdata()[0] for line in ax.lines]
    assert means == [1.0, 2.0]
    outlines = [
        patch for patch in ax.patches if hasattr(patch, "get_xy") and len(np.shape(patch.get_xy())) == 2
    ]
    filled = outlines[::2]
    assert len(filled) == 2
    for patch, scores in zip(filled, SCORES.values(), strict=True):
        corners = np.asarray(patch.get_xy())
        edges = np.unique(corners[:, 0])
        counts, _ = np.histogram(scores, bins=edges)
        assert counts.sum() == 3
        assert corners[:, 1].max() == counts.max()
    spans = [patch.get_extents() for patch in ax.patches if patch not in outlines]
    to_data = ax.transData.inverted()
    bounds = [tuple(to_data.transform([(span.x0, 0), (span.x1, 0)])[:, 0].round(6)) for span in spans]
    assert bounds == [(0.5, 1.5), (1.5, 2.5)]


def test_win_rate_stands_beside_one_half_with_its_drift(drawn: tuple[Any, Path]) -> None:
    ax = _panel(drawn[0], "win rate against sft")
    interval, dot, half = ax.lines
    assert _points(interval) == [(0.686, 0), (0.805, 0)]
    assert _points(dot) == [(0.75, 0)]
    assert half.get_xdata()[0] == 0.5
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dpo\nby gold\nKL 7.1 nats"]


def test_real_pairs_without_gold_still_make_a_figure(run_dirs: dict[str, Path], tmp_path: Path) -> None:
    """No Bayes limit, no scores: three curves and the accuracy."""
    trained = {step: run_dir for step, run_dir in run_dirs.items() if step != "evaluate"}
    figure = pipeline_figure(trained, [ACCURACY], [], tmp_path / "p.png")
    assert len(figure.axes) == 4
    assert len(_panel(figure, "reward model: accuracy").lines) == 3


def test_the_same_data_gives_the_same_bytes(
    run_dirs: dict[str, Path], drawn: tuple[Any, Path], tmp_path: Path
) -> None:
    pipeline_figure(run_dirs, RESULTS, SAMPLES, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == drawn[1].read_bytes()


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure shows every metric."""
    monkeypatch.setattr(figures, "_learnt", every_metric)


def _logged(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A run's directory with these lines, a step each."""
    text = "".join(f"{json.dumps({'step': n} | row)}\n" for n, row in enumerate(rows, start=1))
    (folder / "metrics.jsonl").write_text(text)
    return folder


@pytest.mark.usefixtures("whole")
def test_training_figure_draws_all_that_was_learnt(run_dirs: dict[str, Path], tmp_path: Path) -> None:
    figure = training_figure(run_dirs["dpo"], tmp_path / "t.png")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "accuracy", "validation"]
    assert _points(_panel(figure, "accuracy").lines[0]) == [(40, 0.7)]
    assert _size(tmp_path / "t.png") == (1530, 405)
    asked = training_figure(run_dirs["dpo"], tmp_path / "t.png", metrics=["learning_rate"])
    assert [ax.get_title(loc="left") for ax in asked.axes] == ["learning_rate"]


@pytest.mark.usefixtures("whole")
def test_chosen_and_rejected_are_on_one_scale(tmp_path: Path) -> None:
    rows = [
        {"rewards/chosen": n, "rewards/rejected": -n, "logps/chosen": -n, "loss": 1 / n} for n in (1.0, 2.0)
    ]
    figure = training_figure(_logged(tmp_path, rows), tmp_path / "t.png")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "logps/chosen", "rewards"]
    chosen, rejected = _panel(figure, "rewards").lines
    assert (_points(chosen), _points(rejected)) == ([(1, 1), (2, 2)], [(1, -1), (2, -2)])
    assert (chosen.get_label(), rejected.get_label()) == ("chosen", "rejected")
    asked = training_figure(tmp_path, tmp_path / "t.png", metrics=["rewards/chosen", "rewards/rejected"])
    assert [ax.get_title(loc="left") for ax in asked.axes] == ["rewards/chosen", "rewards/rejected"]


@pytest.mark.usefixtures("whole")
def test_what_never_changed_is_written_at_the_foot(tmp_path: Path) -> None:
    """Where nothing changed, all of it is drawn; what was logged once is; what is no number is left out."""
    rows = [{"loss": 1 / n, "kl_coef": 0.05, "alarms/raised": 0.0, "of": ["a", "b"]} for n in (1, 2, 3)]
    rows[2]["validation"] = 0.5
    figure = training_figure(_logged(tmp_path, rows), tmp_path / "t.png")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "validation"]
    (foot,) = figure.texts
    assert foot.get_text() == "did not change: alarms/raised 0, kl_coef 0.05"
    box, below = foot.get_window_extent(), min(ax.get_tightbbox().y0 for ax in figure.axes)
    assert box.y0 > 0
    assert box.y1 < below
    still = training_figure(
        _logged(tmp_path, [{"loss": 1.0, "of": ["a"]}, {"loss": 1.0}]), tmp_path / "s.png"
    )
    assert [ax.get_title(loc="left") for ax in still.axes] == ["loss"]
    assert not still.texts


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("scale", [1e-9, 1.0, -123456.0, 1e12])
def test_no_label_runs_into_another_panel(scale: float, tmp_path: Path) -> None:
    """Whatever the numbers: in a grid of three by two, nothing overlaps, and nothing is cut off."""
    names = ["loss", "a/of", "b/of", "c/of", "d/of", "e/of"]
    rows = [dict.fromkeys(names, scale * (1 + n / 1000)) for n in range(4)]
    figure = training_figure(_logged(tmp_path, rows), tmp_path / "t.png")
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert len(boxes) == 6
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_reward_figure_ends_in_the_accuracy(run_dirs: dict[str, Path], tmp_path: Path) -> None:
    write_results(run_dirs["reward"] / "results.json", [ACCURACY, BAYES])
    figure = reward_figure(run_dirs["reward"], tmp_path / "r.png")
    titles = ["reward model: loss", "reward model: accuracy in training", "reward model: accuracy"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == titles
    training, validation = figure.axes[1].lines
    assert (_points(training), _points(validation)) == ([(40, 0.7)], [(20, 0.5), (40, 0.75)])
    assert (training.get_label(), validation.get_label()) == ("training", "validation")
    assert _points(figure.axes[2].lines[1]) == [(0.8, 0)]


def test_nothing_to_draw_is_said_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        pipeline_figure({"sft": tmp_path}, [], [], tmp_path / "p.png")
    with pytest.raises(DataError, match="cannot be read"):
        training_figure(tmp_path, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()
