"""What ``stage=sft`` imitates: trl's prompt-completion formats (text or messages) and chat (``messages``).

A text prompt is one user message. Of a conversation the last assistant turn is the reply, and the turns
before it are the prompt: they are read, not imitated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.pairs.fields import own_id, prompt_and_reply
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
        prompt, reply = prompt_and_reply(values)
        return Demonstration(id=own_id(values), prompt=prompt, reply=reply)
