"""Back from a policy to the people, prompts and models behind its pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from made_sweep import made_run

from align.comparison.found import read_runs, run_directories
from align.comparison.groups import grouped
from align.comparison.lineage import Lineage, lineage_of
from align.comparison.lineage_figure import lineage_figure
from align.pairs.records import write_records
from align.run import read_record
from align.types import Judge, Message, PreferenceRecord, Reply, Result

SCORE = [Result("dpo/x", 1.0, 2, None, None, "exact")]


def _noted(directory: Path, inputs: Mapping[str, Path | None]) -> Path:
    """As ``Run.note_input`` does it: the path, and the run that made it with its own inputs."""
    record = read_record(directory)
    assert record is not None
    for role, path in inputs.items():
        entry: dict[str, Any] = {"path": None if path is None else str(path), "sha256": role}
        origin = read_record(path) if path else None
        if origin:
            entry["run"] = {key: origin.get(key) for key in ("stage", "command", "git", "inputs")}
        record["inputs"][role] = entry
    (directory / "run.json").write_text(json.dumps(record))
    return directory


def _judged(folder: Path, names: tuple[str, ...]) -> Path:
    """People's judgements of two replies by a model from elsewhere; one of them a tie."""
    made_run(folder, {"stage": {"name": "annotate"}, "seed": 0, "dataset": {"name": "jsonl"}})
    records = [
        PreferenceRecord(
            id=str(place),
            prompt=(Message("user", f"question {place}"),),
            replies=(Reply("a", model="lab/writer"), Reply("b", model="lab/writer")),
            preferred="tie" if place == 0 else "first",
            judge=Judge("human", name),
        )
        for place, name in enumerate(names)
    ]
    write_records(folder, records)
    return folder


def _world(tmp_path: Path) -> Lineage:
    """base -> sft (questions.jsonl) -> dpo on people's judgements, over two betas and two seeds."""
    (tmp_path / "questions.jsonl").write_text("{}\n")
    sft = made_run(
        tmp_path / "sft", {"stage": {"name": "sft"}, "seed": 0, "dataset": {"name": "jsonl"}}, SCORE
    )
    _noted(sft, {"model": None, "data": tmp_path / "questions.jsonl", "tokenizer": None})
    pairs = _judged(tmp_path / "people", ("ann", "bo", "ann"))
    for beta in (0.1, 0.5):
        for seed in (1, 2):
            config = {"stage": {"name": "dpo"}, "seed": seed, "loss": {"beta": beta}}
            run = made_run(tmp_path / "dpo" / f"{beta}_{seed}", config, SCORE)
            _noted(run, {"model": sft, "data": pairs})
    return lineage_of(grouped(read_runs(run_directories([str(tmp_path / "dpo")]))[0])[0])


def _told(found: Lineage) -> set[tuple[str, str, str]]:
    titles = {key: f"{node.title} {node.count}" for key, node in found.nodes.items()}
    return {(titles[edge.source], edge.role, titles[edge.target]) for edge in found.edges}


def test_people_prompts_and_models_are_found_and_seeds_share_a_box(tmp_path: Path) -> None:
    found = _world(tmp_path)
    assert _told(found) == {
        ("new weights 1", "model", "sft 1"),
        ("jsonl 1", "data", "sft 1"),
        ("sft 1", "model", "dpo 2"),
        ("annotate 1", "data", "dpo 2"),
        ("2 people 1", "judged", "annotate 1"),
        ("lab/writer 1", "wrote", "annotate 1"),
        ("jsonl 1", "data", "annotate 1"),
    }
    assert sorted(node.detail for node in found.nodes.values() if node.title == "dpo") == [
        "loss.beta=0.1",
        "loss.beta=0.5",
    ]
    (people,) = (node for node in found.nodes.values() if node.kind == "judges")
    assert people.detail == "their judgements: 3, 1 ties of 3"
    assert "ann" not in json.dumps([vars(node) for node in found.nodes.values()]).replace("annotate", "")


def test_what_moved_away_is_known_from_what_was_written_down(tmp_path: Path) -> None:
    """The runs that a run.json names need not lie there any more."""
    before = _told(_world(tmp_path))
    for name in ("sft", "people"):
        (tmp_path / name).rename(tmp_path / f"{name}-gone")
    groups = grouped(read_runs(run_directories([str(tmp_path / "dpo")]))[0])[0]
    after = _told(lineage_of(groups))
    assert {("sft 1", "model", "dpo 2"), ("annotate 1", "data", "dpo 2")} <= after
    assert not any(role == "judged" for _, role, _ in after)
    assert len(before) > len(after)


def test_many_settings_become_one_box_a_stage(tmp_path: Path) -> None:
    for number in range(45):
        config = {"stage": {"name": "dpo"}, "seed": 0, "loss": {"beta": number}}
        _noted(made_run(tmp_path / "dpo" / str(number), config, SCORE), {"model": None})
    found = lineage_of(grouped(read_runs(run_directories([str(tmp_path / "dpo")]))[0])[0])
    assert sorted((node.title, node.count) for node in found.nodes.values()) == [
        ("dpo", 45),
        ("new weights", 1),
        ("the stage's own", 1),
    ]


def test_into_a_pipeline_go_the_steps_on_which_no_other_builds(tmp_path: Path) -> None:
    place = tmp_path / "p" / "one"
    for step, builds_on in (("sft", None), ("dpo", "sft"), ("evaluate", "dpo")):
        made_run(place / step, {"stage": {"name": step}, "seed": 0}, SCORE, data=None)
        _noted(place / step, {"model": place / builds_on if builds_on else None})
    whole = {"stage": {"name": "pipeline"}, "seed": 0, "order": ["sft", "dpo", "evaluate"]}
    made_run(tmp_path / "q" / "one", whole, SCORE, data=None)
    for name in ("run.json", "results.json"):
        (tmp_path / "q" / "one" / name).rename(place / name)
    found = lineage_of(grouped(read_runs(run_directories([str(place)]))[0])[0])
    assert _told(found) == {
        ("new weights 1", "model", "sft 1"),
        ("sft 1", "model", "dpo 1"),
        ("dpo 1", "model", "evaluate 1"),
        ("evaluate 1", "step", "pipeline 1"),
    }


def test_the_figure_has_a_row_an_edge(tmp_path: Path) -> None:
    drawn = lineage_figure(_world(tmp_path))
    assert (
        "judges",
        "2 people",
        "their judgements: 3, 1 ties of 3",
        "judged",
        "annotate",
        "people",
    ) in drawn.rows
