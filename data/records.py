"""Records that this project wrote: a folder with ``records.jsonl`` and its manifest, or the file alone.

Ties and pairs of two bad replies are kept on disk and counted; training on pairs leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.pairs.files import content_hash, read_rows
from align.pairs.records import record_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import PreferenceRecord, Row

__all__ = ["Records"]


@dataclass(frozen=True)
class Records:
    """Preference records as they were written, by whoever judged."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """The folder (held against its manifest before it is read), or a ``.jsonl`` file of records."""

    def rows(self) -> Iterator[Row]:
        """One row a record."""
        return read_rows(self.path)

    def content_hash(self) -> str | None:
        """That of the folder or file."""
        return content_hash(self.path)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """Raises ``BadRow`` (``unknown_version``, ``not_a_record`` and the like)."""
        return record_from(values)
