"""Every interval of the page holds the truth often enough; the published tables keep their bounds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from align.report.files import read_metrics
from experiments.comparison.__main__ import HERE, main
from experiments.comparison.coverage import TESTS, called, covered
from experiments.comparison.intervals import SHOWN
from experiments.comparison.made import sweep
from experiments.comparison.table import LEAST, MOST, merged, tables
from experiments.page import END, spliced

DRAWS = 200


@pytest.mark.medium
@pytest.mark.parametrize("name", SHOWN)
def test_an_interval_holds_the_truth(name: str) -> None:
    """95 % of 200 experiments, within four standard errors: 89 to 100 %."""
    assert abs(covered(name, DRAWS)["share"] - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / DRAWS)


@pytest.mark.medium
@pytest.mark.parametrize("name", TESTS)
def test_what_the_page_says_is_so_as_often_as_it_should(name: str) -> None:
    found = called(name, DRAWS)
    error = math.sqrt(found["expected"] * (1 - found["expected"]) / DRAWS)
    assert abs(found["share"] - found["expected"]) <= 4 * error


def test_published_numbers_keep_their_bounds() -> None:
    """1,000 experiments each, all of them within 93 to 97 %; the README shows what results.json holds."""
    found = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    assert set(found["intervals"]) == set(SHOWN)
    assert set(found["tests"]) == set(TESTS)
    for one in found["intervals"].values():
        assert one["draws"] >= 1000
        assert LEAST <= one["share"] <= MOST
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert spliced(page, "comparison", tables(found)) == page


def test_rows_that_were_not_measured_stay() -> None:
    before = {"intervals": {"slope": {"share": 0.95, "draws": 1000}}, "tests": {}}
    found = merged(before, {"intervals": {"brier": {"share": 0.5, "draws": 10}}, "tests": {}})
    text = tables(found)
    assert "| reward models | Brier score | 0.500 (missed) | 10 |" in text
    assert "slope" in text
    assert END not in text


def test_the_made_runs_are_as_asked(tmp_path: Path) -> None:
    trained, evaluated = sweep(tmp_path, runs=5, lines=30)
    assert [len(list(place.iterdir())) for place in (trained, evaluated)] == [5, 5]
    for place in trained.iterdir():
        assert [line["step"] for line in read_metrics(place / "metrics.jsonl")] == list(range(1, 31))


@pytest.mark.medium
def test_the_whole_command_on_a_few_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only", "scale,eight_seeds,mcnemar", "--runs", "8", "--lines", "300", "--rounds", "1"]
    assert main([*words, "--draws", "20", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["scale"]["trainings"]["peak_mb"] > 50
    assert found["scale"]["evaluations"]["seconds"] > 0
    assert re.search(r"8 runs of 300 lines", capsys.readouterr().out)
