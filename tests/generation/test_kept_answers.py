"""Answers kept on disk: read again, shared, and whole after a kill."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from align.generation.kept import KeptAnswers, key_of


def refuse_to_speak(text: str) -> None:
    raise AssertionError(text)


def test_what_was_kept_is_found_again(tmp_path: Path):
    file = tmp_path / "deep" / "kept.jsonl"
    kept = KeptAnswers(file, refuse_to_speak)
    assert kept.get("a") is None
    kept.put("a", ["first\nline", "ünï 数"])
    kept.put("a", ["another"])
    assert kept.get("a") == ("first\nline", "ünï 数")
    assert KeptAnswers(file, refuse_to_speak).get("a") == ("first\nline", "ünï 数")
    assert file.read_bytes().count(b"\n") == 1


def test_of_two_processes_answers_the_first_counts(tmp_path: Path):
    one, two = (KeptAnswers(tmp_path / "kept.jsonl", refuse_to_speak) for _ in range(2))
    one.put("a", ["1"])
    two.put("a", ["2"])
    two.put("b", ["3"])
    again = KeptAnswers(tmp_path / "kept.jsonl", refuse_to_speak)
    assert (again.get("a"), again.get("b")) == (("1",), ("3",))


def test_a_kill_at_any_byte_costs_the_unfinished_line_only(tmp_path: Path):
    whole = KeptAnswers(tmp_path / "whole.jsonl", refuse_to_speak)
    for key in "abc":
        whole.put(key, [f"answer ü {key}"])
    content = (tmp_path / "whole.jsonl").read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        file = tmp_path / "cut.jsonl"
        file.write_bytes(content[:cut])
        KeptAnswers(file, refuse_to_speak).put("d", ["new"])
        again = KeptAnswers(file, refuse_to_speak)
        # a line is whole up to its last brace, with or without its newline
        found = [key for key in "abcd" if again.get(key) is not None]
        assert found == [*("abc"[: sum(cut >= end for end in ends)]), "d"], cut


def test_threads_may_keep_at_once(tmp_path: Path):
    kept = KeptAnswers(tmp_path / "kept.jsonl", refuse_to_speak)
    threads = [
        threading.Thread(target=lambda i=i: [kept.put(f"{i} {j}", ["x" * 3000]) for j in range(20)])
        for i in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    again = KeptAnswers(tmp_path / "kept.jsonl", refuse_to_speak)
    assert all(again.get(f"{i} {j}") == ("x" * 3000,) for i in range(8) for j in range(20))


def test_a_place_that_cannot_be_written_to_is_said_once(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    said: list[str] = []
    kept = KeptAnswers(tmp_path / "file" / "kept.jsonl", said.append)
    kept.put("a", ["1"])
    kept.put("b", ["2"])
    assert kept.get("b") == ("2",)
    assert len(said) == 1
    assert "answers are not kept for later runs" in said[0]


@pytest.mark.parametrize("other", [{"q": "b"}, {"q": "a", "seed": 0}, {"Q": "a"}])
def test_a_key_changes_with_everything_that_was_asked(other: dict[str, object]):
    assert key_of({"q": "a"}) != key_of(other)
    assert key_of({"q": "a", "n": 1}) == key_of({"n": 1, "q": "a"})
