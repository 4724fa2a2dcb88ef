r"""Anthropic's HH transcripts (Bai et al. 2022): ``chosen`` and ``rejected`` as texts.

A transcript reads ``\n\nHuman: ...\n\nAssistant: ...``, of one turn or many. The prompt is everything
before the last ``\n\nAssistant:``, which both transcripts must share. Whitespace around a turn is the
format's, not the speaker's, and is taken off; turns that one speaker takes in a row (a few transcripts have
them) become one message with a blank line between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import text_of
from align.pairs.files import content_hash, read_rows
from align.types import Judge, Message, PreferenceRecord, Prompt, Reply, Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["HhRlhf"]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class HhRlhf:
    """Pairs of transcripts, preferred by people."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file, a folder, or a Hub name (``Anthropic/hh-rlhf``)."""
    split: str = "train"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """Rows with the keys ``chosen`` and ``rejected``."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """Two transcripts as their common prompt and last replies.

        Raises:
            BadRow: ``not_a_transcript``, ``no_reply``, ``prompts_differ``, or what is wrong with a field.
        """
        prompt, chosen = _prompt_and_reply(text_of(values, "chosen"), "chosen")
        other, rejected = _prompt_and_reply(text_of(values, "rejected"), "rejected")
        if prompt != other:
            raise BadRow("prompts_differ", "the transcripts part before the last '\\n\\nAssistant:'")
        return PreferenceRecord(
            id="",
            prompt=_messages(prompt),
            replies=(Reply(chosen), Reply(rejected)),
            preferred="first",
            judge=Judge("human", "hh-rlhf"),
        )


def _prompt_and_reply(transcript: str, key: str) -> tuple[str, str]:
    """The text before the last turn, and that turn's, which must be the assistant's."""
    turns = list(_TURN.finditer(transcript))
    if not turns or transcript[: turns[0].start()].strip():
        raise BadRow(
            "not_a_transcript", f"'{key}' does not begin with '\\n\\nHuman:' but {transcript[:40]!r}"
        )
    last = turns[-1]
    if last[1] != "Assistant":
        raise BadRow("no_reply", f"'{key}' ends with a human's turn")
    return transcript[: last.start()], transcript[last.end() :].strip()


def _messages(prompt: str) -> Prompt:
    _, *parts = _TURN.split(prompt)
    messages: list[Message] = []
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        role, content = _ROLES[speaker], text.strip()
        if messages and messages[-1].role == role:
            content = f"{messages.pop().content}\n\n{content}"
        messages.append(Message(role, content))
    return tuple(messages)
