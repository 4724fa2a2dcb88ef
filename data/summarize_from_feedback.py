r"""Comparisons of summaries by people: OpenAI's ``summarize_from_feedback`` (Stiennon et al. 2020).

A row has ``info`` (``post``, ``title`` and ``subreddit`` of a Reddit post, or ``article`` of a news site),
two ``summaries`` (``text``, ``policy``, ``note``), ``choice`` (0 or 1) and ``worker``. The prompt is the
paper's query: ``SUBREDDIT: r/...\n\nTITLE: ...\n\nPOST: ...\n\nTL;DR:``. ``split`` (train, valid1, valid2),
``batch``, ``confidence`` (as the worker gave it) and the workers' notes are kept as details.

The ratings of single summaries (``axis_evals``) are no comparisons, and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import known_of, maybe_text, objects_of, section_of, text_of, text_prompt, value_of
from align.pairs.files import content_hash, read_rows
from align.types import Judge, PreferenceRecord, Preferred, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Prompt, Row

__all__ = ["SummarizeFromFeedback"]


@dataclass(frozen=True)
class SummarizeFromFeedback:
    """Pairs of summaries of one text, each comparison by one worker."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file (``comparisons/batch3.json``) or a folder with a file a split."""
    split: str = "train"
    """The split to read of what has several (a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """One row a comparison."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One comparison as a record.

        Raises:
            BadRow: ``not_two_summaries``, ``unknown_choice``, or what is wrong with a field.
        """
        summaries = objects_of(values, "summaries")
        if len(summaries) != 2:
            raise BadRow("not_two_summaries", f"{len(summaries)} summaries; a comparison is of two")
        first, second = (Reply(text_of(one, "text"), model=maybe_text(one, "policy")) for one in summaries)
        extra = values.get("extra")
        notes = [one.get("note") for one in summaries]
        return PreferenceRecord(
            id="",
            prompt=_prompt(section_of(values, "info")),
            replies=(first, second),
            preferred=_preferred(values),
            judge=Judge("human", text_of(values, "worker")),
            method="summarize_from_feedback",
            details={
                **known_of(values, "batch", "split"),
                **(known_of(extra, "confidence") if isinstance(extra, dict) else {}),
                **({"notes": notes} if any(notes) else {}),
                **known_of(section_of(values, "info"), "id"),
            },
        )


def _preferred(values: Mapping[str, Any]) -> Preferred:
    choice = value_of(values, "choice")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise BadRow("unknown_choice", f"'choice' is 0 or 1, not {choice!r}")
    return "second" if choice else "first"


def _prompt(info: Mapping[str, Any]) -> Prompt:
    if info.get("article") is not None:
        return text_prompt(f"Article:\n\n{text_of(info, 'article')}\n\nTL;DR:")
    subreddit, title, post = (text_of(info, key) for key in ("subreddit", "title", "post"))
    return text_prompt(f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:")
