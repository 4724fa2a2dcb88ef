"""Runs read back from a project, through a stand-in of wandb's public API with what the tracker sends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from made_sweep import sweep

from align.comparison.found import read_runs, run_directories
from align.comparison.whole import Comparison, compared
from align.errors import DataError, ServerError
from align.report.files import read_metrics, read_results, read_samples
from align.run import flat, read_record
from align.settings import CompareSettings
from align.tracking.wandb_runs import fetched


@dataclass(frozen=True)
class File:
    """A file of a run; ``content`` is what a download writes."""

    name: str
    content: str

    def download(self, root: str, replace: bool) -> IO[str]:
        path = Path(root) / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.content, encoding="utf-8")
        return path.open(encoding="utf-8")


@dataclass(frozen=True)
class Mirrored:
    """A run as the tracker sends it: config, lines, the results in the summary, the samples' table."""

    id: str
    name: str
    config: Mapping[str, Any]
    lines: list[dict[str, Any]]
    results: Mapping[str, float]
    saved: list[File] = field(default_factory=list)
    state: str = "finished"
    url: str = "https://example.org/run"

    @property
    def summary(self) -> dict[str, Any]:
        last = self.lines[-1] if self.lines else {}
        return {**last, "_runtime": 3, "samples": {"_type": "table-file"}, **self.results}

    def scan_history(self) -> Iterator[dict[str, Any]]:
        for place, line in enumerate(self.lines):
            yield {"_step": place, "_timestamp": 1.5, **line}

    def files(self) -> list[File]:
        return self.saved


@dataclass
class Api:
    """``wandb.Api()`` with one project."""

    mirrored: list[Mirrored]
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def runs(self, path: str, filters: Any = None) -> list[Mirrored]:
        self.asked.append((path, filters))
        return self.mirrored


def _mirror(place: Path, number: int, files: bool = False) -> Mirrored:
    record = read_record(place)
    assert record is not None
    metrics, samples = place / "metrics.jsonl", place / "samples.jsonl"
    saved = []
    if files:
        saved = [File(name, (place / name).read_text()) for name in ("run.json", "results.json")]
    if samples.is_file():
        rows = [flat(row) for row in read_samples(samples)]
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        saved.append(File("media/table/samples_0_ab12.table.json", json.dumps(table)))
    return Mirrored(
        id=f"id{number}",
        name=place.name,
        config=record["config"],
        lines=read_metrics(metrics) if metrics.is_file() else [],
        results={one.metric: one.value for one in read_results(place / "results.json")},
        saved=saved,
    )


def _project(folder: Path, files: bool = False) -> Api:
    sweep(folder)
    places = [path.parent for path in sorted(folder.rglob("run.json"))]
    return Api([_mirror(place, number, files) for number, place in enumerate(places)])


def _compared(places: list[Path]) -> Comparison:
    runs, left_out = read_runs(places, stage="evaluate")
    return compared(runs, left_out, CompareSettings())


def test_a_project_compares_as_its_directories_do(tmp_path: Path) -> None:
    """The same groups, differences prompt by prompt and curves; lost are the reference's hash (and with
    it the reference as a contestant) and the intervals of single runs."""
    api = _project(tmp_path / "here")
    there = _compared(fetched("wandb:lab/study", tmp_path / "fetched", api))
    here = _compared(run_directories([str(tmp_path / "here" / "evaluations")]))
    assert api.asked == [("lab/study", None)]
    assert [one.label for one in there.groups] == [one.label for one in here.groups]
    known = {(one.ours, one.theirs): one for one in here.differences}
    (only,) = there.differences
    same = known[only.ours, only.theirs]
    assert (only.score, only.seeds, only.win_rate) == (same.score, same.seeds, same.win_rate)
    assert there.curves == here.curves
    assert {name: row.keys() for name, row in there.cells.items()} == {
        name: row.keys() for name, row in here.cells.items()
    }
    assert there.curves["loss"]


def test_saved_files_are_taken_as_they_are(tmp_path: Path) -> None:
    api = _project(tmp_path / "here", files=True)
    places = fetched("wandb:lab/study/beta", tmp_path / "fetched", api)
    assert api.asked == [("lab/study", {"group": "beta"})]
    for mirrored, place in zip(api.mirrored, places, strict=True):
        assert place.name == f"{mirrored.name}-{mirrored.id}"
        assert (place / "results.json").read_text() == mirrored.saved[1].content
    # the evaluations have their own intervals, and follow their models to where these lie now
    found, _ = read_runs(places, stage="evaluate")
    assert all(one.ci_low is not None for run in found for one in run.results)
    assert all(str(tmp_path / "fetched") in run.record["config"]["model"]["path"] for run in found)


def test_states_and_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    config = {"stage": {"name": "dpo"}, "seed": 3, "_wandb": {}}
    lines = [
        {"step": 1, "loss": 0.5, "against_kl/loss": 0.5},
        {"loss": 1.0},
        {"step": 2, "loss": float("nan"), "note": "x"},
    ]
    run = Mirrored("a", "b/../c d", config, lines, {"dpo/alarms": 1.0}, state="crashed")
    (place,) = fetched("wandb:lab/study", tmp_path / "out", Api([run]))
    assert place.parent == tmp_path / "out"
    record = read_record(place)
    assert record is not None
    assert (record["state"], record["stage"], record["seed"]) == ("failed", "dpo", 3)
    assert [one.metric for one in read_results(place / "results.json")] == ["dpo/alarms"]
    # a line without a step is a table's, not a step's; what is no number is left out
    assert read_metrics(place / "metrics.jsonl") == [{"step": 1, "loss": 0.5}, {"step": 2}]


def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    class Down:
        def runs(self, path: str, filters: Any = None) -> list[Any]:
            raise ConnectionError("no route to host\nand a traceback")

    with pytest.raises(ServerError, match=r"no route to host\).*give run directories"):
        fetched("wandb:lab/study", tmp_path, Down())
    with pytest.raises(DataError, match="no runs there"):
        fetched("wandb:lab/study", tmp_path, Api([]))
    with pytest.raises(DataError, match="ENTITY/PROJECT"):
        fetched("wandb:study", tmp_path, Api([]))


def test_the_real_client_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServerError, match=r"wandb cannot be read \(.*WANDB_API_KEY"):
        fetched("wandb:lab/study", tmp_path / "out")
