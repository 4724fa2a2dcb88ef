"""Commands, memory and printing, with speakers that say what they were asked."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from align.chat.commands import changed, command_of
from align.chat.conversation import seed_of
from align.chat.speaker import Heard
from align.chat.talk import Talk
from align.errors import ConfigError, ModelError
from align.settings import SamplingSettings
from align.types import Prompt

SAMPLING = SamplingSettings()


@dataclass(frozen=True)
class Echo:
    """Replies with its name, the number of messages it sees, the last one, and the seed; a word a token."""

    name: str
    breaks: bool = False

    def reply(self, prompt: Prompt, settings: SamplingSettings, seed: int) -> Generator[Heard, None, None]:
        if prompt[-1].content == "refuse":
            raise ModelError("no such conversation")
        words = f"{self.name} {prompt[0].role} {len(prompt)} {prompt[-1].content} {seed}".split()
        for count in range(1, len(words) + 1):
            yield Heard(" ".join(words[:count]), count, count == len(words), 0)
            if self.breaks and count == 2:
                raise KeyboardInterrupt


def _held(folder: Path, *lines: str, speakers: Sequence[Echo] = (Echo("a"),), terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False, soft_wrap=True)
    Talk(speakers, SAMPLING, 7, None, folder / "chat.jsonl", console).hold(lines)
    return out.getvalue()


def _rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "chat.jsonl").read_text().splitlines()]


def test_turns_are_remembered_until_they_are_forgotten(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", "", "two", "/reset", "three", "/quit", "four")
    assert f"a user 1 one {seed_of(7, 0, 0)}\n" in said
    assert f"a user 3 two {seed_of(7, 1, 0)}\n" in said
    assert f"a user 1 three {seed_of(7, 0, 0)}\n" in said
    assert "four" not in said
    assert [row["said"] for row in _rows(tmp_path)] == ["one", "two", "three"]


def test_a_reply_is_drawn_again_in_the_same_place_with_another_seed(tmp_path: Path) -> None:
    said = _held(tmp_path, "/regenerate", "one", "/regenerate", "/regenerate", "two")
    assert "nothing was said yet" in said
    seeds = [seed_of(7, 0, attempt) for attempt in range(3)]
    assert len(set(seeds)) == 3
    assert [f"a user 1 one {seed}\n" in said for seed in seeds] == [True] * 3
    assert f"a user 3 two {seed_of(7, 1, 0)}" in said


def test_two_speakers_hear_the_same_and_remember_their_own(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", "two", speakers=(Echo("a"), Echo("b")))
    assert f"[a]\na user 1 one {seed_of(7, 0, 0)}\n[b]\nb user 1 one {seed_of(7, 0, 0)}\n" in said
    replies = _rows(tmp_path)[1]["replies"]
    assert isinstance(replies, dict)
    assert list(replies) == ["a", "b"]


def test_in_a_terminal_two_stand_side_by_side(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", speakers=(Echo("a"), Echo("b")), terminal=True)
    last = [line for line in said.splitlines() if "a user 1 one" in line and "b user 1 one" in line]
    assert last


def test_the_words_before_a_conversation(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", "/system be kind", "two", "/system", "three")
    assert f"a system 2 two {seed_of(7, 0, 0)}" in said
    assert f"a user 1 three {seed_of(7, 0, 0)}" in said
    assert [row["system"] for row in _rows(tmp_path)] == [None, "be kind", None]


def test_what_is_refused_leaves_the_conversation_as_it_was(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", "refuse", "/nonsense", "/set top_p=2", "two")
    for words in ("no such conversation", "no command /nonsense", "top_p"):
        assert words in said
    assert f"a user 3 two {seed_of(7, 1, 0)}" in said


def test_the_keyboard_ends_a_reply_and_not_the_sitting(tmp_path: Path) -> None:
    said = _held(tmp_path, "one", "two", speakers=(Echo("a", breaks=True),))
    assert "(cut after 2 tokens)" in said
    assert [row["replies"] for row in _rows(tmp_path)] == [
        {"a": {"text": "a user", "tokens": 2, "ended": False}}
    ] * 2


def test_escape_codes_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    assert "\x1b[2J" not in _held(tmp_path, "\x1b[2J")
    assert "\\x1b[2J" in _held(tmp_path, "\x1b[2J")


def test_settings_are_checked_as_on_the_command_line() -> None:
    assert changed(SAMPLING, 0, "temperature=0.2")[0].temperature == 0.2
    assert changed(SAMPLING, 0, "max_new_tokens = 5")[0].max_new_tokens == 5
    assert changed(SAMPLING, 0, "seed=3") == (SAMPLING, 3)
    for typed, words in (
        ("temperature=-1", "at least 0"),
        ("beta=1", "settable are"),
        ("seed=x", "a number"),
    ):
        with pytest.raises(ConfigError, match=words):
            changed(SAMPLING, 0, typed)


def test_lines_that_begin_with_two_slashes_are_words(tmp_path: Path) -> None:
    assert command_of("//reset") is None
    assert f"a user 1 /reset {seed_of(7, 0, 0)}" in _held(tmp_path, "//reset")
