"""trl's preference formats, in any file that can be read: prompt explicit or implicit, text or conversations.

| | prompt | chosen, rejected |
|---|---|---|
| standard, explicit | text | text |
| standard, implicit | (none) | texts that begin alike: what they share is the prompt |
| conversational, explicit | messages | messages, one assistant turn each |
| conversational, implicit | (none) | whole conversations that differ in the last turn only |

A text prompt is one user message. A row may carry ``margin`` (or ``score_chosen`` and ``score_rejected``)
and an ``id``; other columns are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import (
    margin_of,
    messages_of,
    own_id,
    text_of,
    text_prompt,
    two_replies,
    value_of,
)
from align.pairs.files import content_hash, read_rows
from align.types import Judge, PreferenceRecord, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Prompt, Row

__all__ = ["Preference"]


@dataclass(frozen=True)
class Preference:
    """Pairs in one of trl's four preference formats, recognised row by row."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file, a folder, or a Hub name."""
    split: str = "train"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """Rows with the keys ``chosen`` and ``rejected``, and perhaps ``prompt``."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One row as a record.

        Raises:
            BadRow: ``mixed_formats``, ``prompts_differ``, ``no_reply``, ``negative_margin``, or what is wrong
                with a field.
        """
        conversational = isinstance(value_of(values, "chosen"), list)
        prompt, chosen, rejected = _conversations(values) if conversational else _texts(values)
        return PreferenceRecord(
            id=own_id(values),
            prompt=prompt,
            replies=(Reply(chosen), Reply(rejected)),
            preferred="first",
            judge=Judge("file", "preference"),
            margin=margin_of(values),
        )


def _conversations(values: Mapping[str, Any]) -> tuple[Prompt, str, str]:
    prompt: Prompt = ()
    if "prompt" in values:
        if isinstance(values["prompt"], str):
            raise BadRow(
                "mixed_formats",
                "the prompt is text and the replies are messages (dataset=ultrafeedback reads whole "
                "conversations beside a text prompt)",
            )
        prompt = messages_of(values, "prompt")
    return two_replies(prompt + messages_of(values, "chosen"), prompt + messages_of(values, "rejected"))


def _texts(values: Mapping[str, Any]) -> tuple[Prompt, str, str]:
    chosen, rejected = text_of(values, "chosen"), text_of(values, "rejected")
    if "prompt" in values:
        return text_prompt(text_of(values, "prompt")), chosen, rejected
    if chosen == rejected:
        raise BadRow("same_replies", "the chosen text equals the rejected one")
    end = _common_prefix(chosen, rejected)
    return text_prompt(chosen[:end]), chosen[end:], rejected[end:]


def _common_prefix(chosen: str, rejected: str) -> int:
    """Where the shared prompt ends, as in ``trl.extract_prompt``: a space before it goes to the replies."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    end = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    return end - 1 if end and chosen[end - 1] == " " else end
