"""What is written down of the data that several benchmarks measured on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from align.benchmarks._material import Material


@dataclass
class Noting:
    """A run that keeps what it is told."""

    noted: dict[str, tuple[str | None, str]] = field(default_factory=dict)

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


def test_two_readings_of_the_dataset_are_one_input() -> None:
    """Prompts and their references, say; read again, the same adds nothing."""
    both = noted(("", "p", "1"), ("", "p", "2"))
    assert both["data"][1] not in ("1", "2")
    assert noted(("", "p", "2"), ("", "p", "1"), ("", "p", "2")) == both
    assert noted(("", "p", "1"), ("", "p", "1"))["data"] == ("p", "1")
