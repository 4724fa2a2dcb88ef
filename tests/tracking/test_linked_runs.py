"""A tracker is told what went into a run by the name under which its own run offered it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.files import sha256_of, write_json
from align.run import Run
from align.tracking.none import NoTracker


@dataclass(frozen=True)
class Recorder(NoTracker):
    """Remembers what it is told."""

    offered: list[tuple[str, str, Path]] = field(default_factory=list)
    inputs: list[tuple[Any, ...]] = field(default_factory=list)

    def artifact(self, name: str, kind: str, path: Path) -> None:
        self.offered.append((name, kind, path))

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        self.inputs.append((name, kind, path, sha256))


def run_in(directory: Path, stage: str) -> tuple[Run, Recorder]:
    """A run whose directory is open."""
    tracker = Recorder()
    directory.mkdir(parents=True)
    config = {"run": {"dir": str(directory)}}
    run = Run(directory, None, stage, 0, False, tracker, config)  # type: ignore[arg-type]
    run.note(stage=stage, config=config)
    return run, tracker


def with_model(directory: Path, stage: str) -> tuple[Run, Recorder]:
    """A run that has made a model."""
    run, tracker = run_in(directory, stage)
    (directory / "model").mkdir()
    (directory / "model" / "weights").write_text(stage)
    run.offer_model()
    return run, tracker


def test_from_data_to_policy_each_is_known_by_what_its_maker_called_it(tmp_path: Path) -> None:
    collect, offered = run_in(tmp_path / "pairs", "collect")
    (tmp_path / "pairs" / "records.jsonl").write_text("{}\n")
    collect.offer("records", tmp_path / "pairs" / "records.jsonl", "pairs", pairs=1)
    assert offered.offered == [("pairs-pairs", "dataset", tmp_path / "pairs" / "records.jsonl")]

    sft, told = with_model(tmp_path / "sft", "sft")
    sft.note_input("data", None, "ab" * 32)
    assert told.inputs == [("data-abababababab", "dataset", None, "ab" * 32)]

    reward, told = with_model(tmp_path / "reward", "reward")
    reward.note_input("model", str(tmp_path / "sft"))
    reward.note_input("tokenizer", None, "cd" * 32)
    reward.note_input("data", str(tmp_path / "pairs"), "ef" * 32)
    model = tmp_path / "sft" / "model"
    records = tmp_path / "pairs" / "records.jsonl"
    assert told.inputs == [
        ("sft-sft", "model", model, sha256_of(model)),
        ("pairs-pairs", "dataset", records, sha256_of(records)),
    ]

    _, told = policy = run_in(tmp_path / "ppo", "ppo")
    policy[0].note_input("reward", str(tmp_path / "reward" / "model"))
    assert [one[0] for one in told.inputs] == ["reward-reward"]
    assert told.inputs[0][2] == tmp_path / "reward" / "model"


def test_a_run_that_was_moved_is_found_where_it_lies_now(tmp_path: Path) -> None:
    with_model(tmp_path / "sft", "sft")
    (tmp_path / "sft").rename(tmp_path / "archive")
    run, told = run_in(tmp_path / "dpo", "dpo")
    run.note_input("model", str(tmp_path / "archive"))
    assert told.inputs == [
        ("sft-sft", "model", tmp_path / "archive" / "model", sha256_of(tmp_path / "archive" / "model"))
    ]


def test_a_run_from_before_products_had_names_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "old" / "model").mkdir(parents=True)
    write_json(tmp_path / "old" / "run.json", {"stage": "sft", "outputs": {"model": {"path": "x"}}})
    run, told = run_in(tmp_path / "dpo", "dpo")
    run.note_input("model", str(tmp_path / "old"))
    assert told.inputs == []
