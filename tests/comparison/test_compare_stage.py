"""The command itself: what it writes, and that the page needs nothing but itself."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from made_sweep import made_run, sweep, trained
from tiny_runs import align, record

from align.comparison.curves import series_of, training_curves
from align.comparison.found import read_runs, run_directories
from align.comparison.frontier import frontiers
from align.comparison.groups import grouped
from align.evaluation.best_of_n import best_of_n_kl
from align.types import Result


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    sweep(folder, betas=(0.05, 0.1, 0.5))
    align(
        "stage=compare",
        f"runs={folder}/evaluations",
        f"run.dir={folder}/out",
        "compare.baseline='loss.beta=0.1'",
    )
    return folder / "out"


def test_every_file_is_there_and_holds_the_numbers(out: Path) -> None:
    drawn = {path.name for path in (out / "figures").iterdir()}
    for name in ("dpo_gold_gain", "wins", "frontier", "overoptimisation", "curves", "lineage", "differences"):
        assert {f"{name}.{kind}" for kind in ("png", "pdf", "csv")} <= drawn
    with (out / "figures" / "dpo_gold_gain.csv").open() as file:
        rows = {row["group"]: row for row in csv.DictReader(file)}
    assert float(rows["loss.beta=0.1"]["value"]) == pytest.approx(5.0)
    assert float(rows["loss.beta=0.1"]["seed_sd"]) == pytest.approx(0.1)
    with (out / "differences.csv").open() as file:
        pairs = {(row["ours"], row["theirs"]): row for row in csv.DictReader(file)}
    assert float(pairs["loss.beta=0.05", "loss.beta=0.1"]["difference"]) == pytest.approx(0.5)
    results = {one["metric"]: one["value"] for one in json.loads((out / "results.json").read_text())}
    assert results["loss.beta=0.05/dpo/gold_gain"] == pytest.approx(5.5)
    assert json.loads((out / "compare.json").read_text())["reward"] == "gold"
    assert len(record(out)["inputs"]) == 9


def test_the_page_is_whole_by_itself(out: Path) -> None:
    """No address but the namespaces of SVG; every figure inside, in the colour of the reader's text."""
    page = (out / "comparison.html").read_text()
    addresses = set(re.findall(r"(?:src|href)=[\"']([^\"'#][^\"']*)", page)) | set(
        re.findall(r"url\(([^#)]+)", page)
    )
    assert {one for one in addresses if not one.startswith("data:")} == set()
    assert "<script" not in page
    assert page.count("<svg") == len(list((out / "figures").glob("*.csv")))
    assert "currentColor" in page
    assert "#010203" not in page
    assert "prefers-color-scheme: dark" in page
    assert "loss.beta=0.05 is higher, over prompts and over seeds" in page


def test_the_page_escapes_what_runs_are_called(tmp_path: Path) -> None:
    for place, name in enumerate(("<b>bold</b>", "plain")):
        config = {"stage": {"name": "sft"}, "seed": 0, "dataset": {"note": name}}
        made_run(
            tmp_path / "runs" / str(place), config, [Result("sft/nll", 2.0 + place, 9, 1.9, 3.1, "bootstrap")]
        )
    align("stage=compare", f"runs={tmp_path}/runs", f"run.dir={tmp_path}/out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    assert (
        "Nothing was compared prompt by prompt: not every run left samples.jsonl (stage=evaluate does)."
        in page
    )


def test_training_curves_are_those_of_the_model_with_the_spread_of_seeds(tmp_path: Path) -> None:
    """Loss is 1/step + seed/10 for seeds 1 to 3: mean 1/step + 0.2, spread 0.1."""
    groups, _ = grouped(read_runs(run_directories([str(sweep(tmp_path))]))[0])
    curves = training_curves(series_of(groups))
    assert list(curves) == ["loss"]
    first, _ = curves["loss"]
    assert first.steps == (1, 2, 3, 4, 5)
    assert first.mean == pytest.approx([1 / step + 0.2 for step in first.steps])
    assert first.spread == pytest.approx([0.1] * 5)


def test_long_curves_are_thinned_alike_and_keep_their_end(tmp_path: Path) -> None:
    for seed in (1, 2):
        place = trained(tmp_path / "r" / str(seed), 0.1, seed)
        lines = [{"step": step, "loss": float(step)} for step in range(1, 1002)]
        (place / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    groups, _ = grouped(read_runs(run_directories([str(tmp_path / "r")]))[0])
    (band,) = training_curves(series_of(groups))["loss"]
    assert len(band.steps) <= 200
    assert band.steps[-1] == 1001
    assert band.mean == pytest.approx(band.steps)


def test_the_frontier_has_a_point_a_run_and_the_fitted_curve(tmp_path: Path) -> None:
    groups, _ = grouped(read_runs(run_directories([str(sweep(tmp_path))]))[0])
    (found,) = frontiers(groups)
    assert (found.reward, len(found.points)) == ("gold", 6)
    assert [one.kl for one in found.points[:2]] == pytest.approx([10.1, 10.2])
    assert [one.gained for one in found.points[:2]] == pytest.approx([4.9, 5.0])
    assert found.curve is not None
    assert found.curve.form == "rl"


def test_best_of_n_gains_over_its_own_start(tmp_path: Path) -> None:
    """Gold d (1 - 0.1 d) over d = sqrt(KL(n)), on top of 3: the fit has 1 and 0.1."""
    results = []
    for n in (1, 2, 4, 8, 16):
        d = best_of_n_kl(n) ** 0.5
        results.append(Result(f"best_of_{n}/gold_reward", 3 + d * (1 - 0.1 * d), 9, None, None, "exact"))
        results.append(Result(f"best_of_{n}/kl", d * d, 9, None, None, "exact"))
    made_run(tmp_path / "r" / "a", {"stage": {"name": "best_of_n"}, "seed": 0}, results)
    (found,) = frontiers(grouped(read_runs(run_directories([str(tmp_path / "r")]))[0])[0])
    assert found.curve is not None
    assert (found.curve.form, found.curve.a, found.curve.b) == (
        "best_of_n",
        pytest.approx(1.0),
        pytest.approx(0.1),
    )


@pytest.mark.medium
def test_a_real_sweep_is_compared(tmp_path: Path) -> None:
    from tiny_runs import evaluate, train

    start = train("sft", tmp_path / "sft")
    for beta in (0.1, 0.5):
        for seed in (1, 2):
            name = f"loss.beta={beta}_seed={seed}"
            train("dpo", tmp_path / "dpo" / name, f"loss.beta={beta}", f"seed={seed}", start=start)
            evaluate(tmp_path / "e" / name, tmp_path / "dpo" / name, start)
    align("stage=compare", f"runs={tmp_path}/e", f"run.dir={tmp_path}/out")
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [one["label"] for one in found["groups"]] == ["loss.beta=0.1", "loss.beta=0.5"]
    assert all(len(one["runs"]) == 2 for one in found["groups"])
    assert [one["theirs"] for one in found["differences"]] == [
        "loss.beta=0.5",
        "the reference",
        "the reference",
    ]
    assert "dpo/gold_win_rate" in found["metrics"]
