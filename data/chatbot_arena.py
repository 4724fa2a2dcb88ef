"""Battles of two models that a person judged, as LMSYS publishes them (Zheng et al. 2023).

A row has ``conversation_a`` and ``conversation_b`` (lists of messages), ``winner`` (``model_a``, ``model_b``,
``tie``, ``tie (bothbad)``), ``model_a``, ``model_b`` and ``judge``. The prompt is what both conversations
share, so only their last turns may differ. A battle of several turns whose models answered an earlier turn
differently is no pair: no prompt is common to both last replies, and whether the judge meant the last turn or
the whole is not known. Such rows are refused (``prompts_differ``), most battles of several turns among them.

``language``, ``turn`` and ``anony`` are kept as details; moderation scores are not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import known_of, messages_of, number_of, text_of, two_replies
from align.pairs.files import content_hash, read_rows
from align.types import Judge, PreferenceRecord, Preferred, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["ChatbotArena"]

_WINNERS: dict[str, Preferred] = {
    "model_a": "first",
    "model_b": "second",
    "tie": "tie",
    "tie (bothbad)": "both_bad",
}


@dataclass(frozen=True)
class ChatbotArena:
    """Pairs of replies by two models, judged by the person who asked."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file, a folder, or a Hub name (``lmsys/chatbot_arena_conversations``)."""
    split: str = "train"
    """The split to read of what has several (a Hub name, a folder with a file a split)."""
    test_split: str | None = None
    """The split of the same place that is the test set; none holds out ``test_fraction`` of the prompts."""

    def rows(self) -> Iterator[Row]:
        """One row a battle."""
        return read_rows(self.path, split=self.split, test_split=self.test_split)

    def content_hash(self) -> str | None:
        """That of the files, where they lie here."""
        return content_hash(self.path, split=self.split, test_split=self.test_split)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One battle as a record.

        Raises:
            BadRow: ``unknown_winner``, ``prompts_differ``, ``no_reply``, or what is wrong with a field.
        """
        winner = text_of(values, "winner")
        if winner not in _WINNERS:
            raise BadRow("unknown_winner", f"'winner' is one of {', '.join(_WINNERS)}, not {winner!r}")
        prompt, first, second = two_replies(
            messages_of(values, "conversation_a"),
            messages_of(values, "conversation_b"),
            names=("conversation_a", "conversation_b"),
        )
        # MT-bench judgements come in the same columns, where a question's number stands in many rows
        battle = values.get("question_id")
        return PreferenceRecord(
            id=battle if isinstance(battle, str) else "",
            prompt=prompt,
            replies=(
                Reply(first, model=text_of(values, "model_a")),
                Reply(second, model=text_of(values, "model_b")),
            ),
            preferred=_WINNERS[winner],
            judge=Judge("human", text_of(values, "judge")),
            method="chatbot_arena",
            judged_at=_time(values) if values.get("tstamp") is not None else None,
            details=known_of(values, "language", "turn", "anony"),
        )


def _time(values: Mapping[str, Any]) -> str:
    """Seconds since 1970 as ISO 8601. Raises ``BadRow`` (``not_a_number``, ``not_a_time``)."""
    seconds = number_of(values, "tstamp")
    try:
        return datetime.fromtimestamp(math.floor(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise BadRow("not_a_time", f"'tstamp' is {seconds:g}: {error}") from error
