"""UltraFeedback as ``HuggingFaceH4/ultrafeedback_binarized`` has it (Cui et al. 2023; Tunstall et al. 2023).

``chosen`` and ``rejected`` are whole conversations, ``prompt`` repeats the question as text, and
``score_chosen - score_rejected`` (GPT-4's ratings, 1 to 10) becomes the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import margin_of, messages_of, text_of, two_replies
from align.pairs.files import content_hash, read_rows
from align.types import Judge, PreferenceRecord, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["UltraFeedback"]


@dataclass(frozen=True)
class UltraFeedback:
    """Pairs of conversations with ratings, preferred by GPT-4."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str = "HuggingFaceH4/ultrafeedback_binarized"
    """A Hub name, a file, or a folder."""
    split: str = "train_prefs"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """Rows with the keys ``prompt``, ``chosen``, ``rejected``, ``score_chosen``, ``score_rejected``."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One row as a record.

        Raises:
            BadRow: ``prompts_differ``, ``no_reply``, ``negative_margin``, or what is wrong with a field.
        """
        prompt, chosen, rejected = two_replies(messages_of(values, "chosen"), messages_of(values, "rejected"))
        asked = text_of(values, "prompt").strip()
        if asked not in (message.content.strip() for message in prompt):
            raise BadRow("prompts_differ", "'prompt' is not among the turns of the conversations")
        return PreferenceRecord(
            id="",
            prompt=prompt,
            replies=(Reply(chosen), Reply(rejected)),
            preferred="first",
            judge=Judge("model", "gpt-4"),
            margin=margin_of(values),
        )
