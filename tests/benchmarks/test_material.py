"""What is written down of the data that several benchmarks measured on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from align.benchmarks._material import Material
from align.settings import DatasetSettings
from data.toy import Toy


@dataclass
class Noting:
    """A run that keeps what it is told."""

    noted: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    directory: Path = Path("nowhere")

    def note_input(self, role: str, path: str | None, fingerprint: str) -> None:
        self.noted[role] = (path, fingerprint)


def noted(*entries: tuple[str, str, str]) -> dict[str, tuple[str | None, str]]:
    run = Noting()
    with ExitStack() as closing:
        material = Material(cast(Any, run), cast(Any, None), closing)
        for entry in entries:
            material.note_data(*entry)
    return run.noted


def test_one_benchmark_on_the_dataset_is_noted_as_it_always_was() -> None:
    assert noted(("", "pairs.jsonl", "1")) == {"data": ("pairs.jsonl", "1")}


def test_files_of_benchmarks_have_roles_and_data_is_all_of_them() -> None:
    one = noted(("", "p", "1"), ("xstest", "x.csv", "2"))
    assert one["data.xstest"] == ("x.csv", "2")
    assert one["data"][0] is None
    assert noted(("xstest", "y.csv", "2"), ("", "q", "1"))["data"] == one["data"], (
        "neither order nor place counts"
    )
    assert noted(("", "p", "1"), ("xstest", "x.csv", "3"))["data"] != one["data"]


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_examples_of_a_split_and_of_all(split: Any, tmp_path: Path) -> None:
    """Splits share the pairs out; all of them are the file."""
    dataset = DatasetSettings(Toy(pairs=60, prompts=60), test_fraction=0.3, validation_fraction=0.2)
    run = Noting()
    run.directory = tmp_path
    with ExitStack() as closing:
        material = Material(cast(Any, run), cast(Any, SimpleNamespace(dataset=dataset)), closing)
        own = {
            name: material.examples("pairs", name, None) for name in ("train", "validation", "test", "all")
        }
        found = [item.prompt for item in own[split]]
        assert [item.prompt for item in material.examples("demonstrations", split, 2)] == found[:2]
    assert 1 < len(found) <= 60
    assert len(own["all"]) == 60 == sum(len(own[name]) for name in ("train", "validation", "test"))
    assert set(found) <= {item.prompt for item in own["all"]}


def test_two_readings_of_the_dataset_are_one_input() -> None:
    """Prompts and their references, say; read again, the same adds nothing."""
    both = noted(("", "p", "1"), ("", "p", "2"))
    assert both["data"][1] not in ("1", "2")
    assert noted(("", "p", "2"), ("", "p", "1"), ("", "p", "2")) == both
    assert noted(("", "p", "1"), ("", "p", "1"))["data"] == ("p", "1")
