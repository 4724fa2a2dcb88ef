"""Questions out of templates: places filled once, and asking until an answer can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from align.errors import ConfigError
from align.generation.questions import Reading, answers_to, filled, places_in, read_template, transcript
from align.generation.server import ServedReply
from align.types import Message, Prompt


def test_places_are_filled_in_one_pass():
    template = 'Rate {reply} to {question}, as {"score": N} or {UPPER}'
    assert places_in(template) == {"reply", "question"}
    assert (
        filled(template, {"reply": "{question}", "question": "why?"})
        == 'Rate {question} to why?, as {"score": N} or {UPPER}'
    )


def test_a_transcript_names_who_speaks():
    prompt = (Message("system", "Be brief."), Message("user", "Why?"))
    assert transcript(prompt) == "System: Be brief.\nUser: Why?"


def test_a_template_with_a_place_that_nobody_fills_is_refused(tmp_path: Path):
    (tmp_path / "t.txt").write_text("{repli}")
    with pytest.raises(ConfigError, match=r"nobody fills \{repli\}\. Did you mean 'reply'\? Known: reply"):
        read_template(tmp_path / "t.txt", ["reply"], "key")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_template(tmp_path / "absent", ["reply"], "key")


def test_only_those_who_were_not_understood_are_asked_again():
    """ "b" is understood at its third answer, "c" never; two reminders at most."""
    asked: list[tuple[int, list[str]]] = []

    def write(conversations: Sequence[Prompt], turn: int) -> list[ServedReply]:
        asked.append(
            (turn, ["/".join(f"{one.role[0]}:{one.content}" for one in each) for each in conversations])
        )
        understood = {"a", "b"} if turn == 2 else {"a"}
        return [ServedReply("yes" if each[0].content in understood else "hm", True) for each in conversations]

    reading = Reading(readable=lambda answer: answer == "yes", reminder="what?", reminders=2)
    questions = [(Message("user", name),) for name in "abc"]
    found = answers_to(write, questions, reading)
    assert [[one.text for one in each] for each in found] == [["yes"], ["hm", "hm", "yes"], ["hm"] * 3]
    assert asked == [
        (0, ["u:a", "u:b", "u:c"]),
        (1, ["u:b/a:hm/u:what?", "u:c/a:hm/u:what?"]),
        (2, ["u:b/a:hm/u:what?/a:hm/u:what?", "u:c/a:hm/u:what?/a:hm/u:what?"]),
    ]
