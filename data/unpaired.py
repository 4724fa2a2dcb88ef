"""Replies that are each labelled good or bad, one a row: trl's unpaired formats (text or messages).

A row has ``prompt``, ``completion`` and ``label`` (true: desirable). A text prompt is one user message. Of
``messages`` beside a label, the last assistant turn is the reply and the turns before it are the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.pairs.fields import label_of, own_id, prompt_and_reply
from align.pairs.files import content_hash, read_rows
from align.types import UnpairedExample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["Unpaired"]


@dataclass(frozen=True)
class Unpaired:
    """Prompts with a reply and a label each, recognised row by row."""

    offers: ClassVar[Literal["unpaired"]] = "unpaired"

    path: str
    """A file, a folder, or a Hub name."""
    split: str = "train"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """Rows with ``label``, and ``prompt`` and ``completion`` or ``messages``."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> UnpairedExample:
        """One row as a labelled reply.

        Raises:
            BadRow: ``not_a_label``, ``missing_key``, ``mixed_formats``, ``no_reply``, or what is wrong with a
                field.
        """
        prompt, reply = prompt_and_reply(values)
        return UnpairedExample(own_id(values), prompt, reply, label_of(values, "label"))
