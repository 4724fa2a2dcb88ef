"""What ``stage=sft`` imitates: trl's prompt-completion formats (text or messages) and chat (``messages``).

A text prompt is one user message. Of a conversation the last assistant turn is the reply, and the turns
before it are the prompt: they are read, not imitated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import last_reply, messages_of, own_id, text_of, text_prompt, value_of
from align.pairs.files import content_hash, read_rows
from align.types import Demonstration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["Demonstrations"]


@dataclass(frozen=True)
class Demonstrations:
    """Prompts with one good reply each, recognised row by row."""

    offers: ClassVar[Literal["demonstrations"]] = "demonstrations"

    path: str
    """A file, a folder, or a Hub name."""
    split: str = "train"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """Rows with ``messages``, or with ``prompt`` and ``completion``."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> Demonstration:
        """One row as a demonstration.

        Raises:
            BadRow: ``missing_key``, ``mixed_formats``, ``no_reply``, or what is wrong with a field.
        """
        if "messages" in values:
            prompt, reply = last_reply(messages_of(values, "messages"), "messages")
        elif "prompt" not in values and "completion" not in values:
            found = ", ".join(map(str, values)) or "nothing"
            raise BadRow(
                "missing_key", f"neither 'messages' nor 'prompt' and 'completion'. The row has: {found}"
            )
        elif isinstance(value_of(values, "completion"), list):
            if isinstance(value_of(values, "prompt"), str):
                raise BadRow("mixed_formats", "the prompt is text and the completion is messages")
            whole = messages_of(values, "prompt") + messages_of(values, "completion")
            prompt, reply = last_reply(whole, "completion")
        else:
            prompt, reply = text_prompt(text_of(values, "prompt")), text_of(values, "completion")
        return Demonstration(id=own_id(values), prompt=prompt, reply=reply)
