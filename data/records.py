"""Records that this project wrote: a folder with ``records.jsonl`` and its manifest, or the file alone.

Candidates (``candidates.jsonl``, pairs that nobody has judged) are rows, too, and make no records
(``not_judged``): whoever is to judge them asks for ``with_candidates``.

Ties and pairs of two bad replies are kept on disk and counted; training on pairs leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.pairs.candidates import as_a_tie
from align.pairs.files import content_hash, read_rows
from align.pairs.records import record_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.protocols import Source
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

    def with_candidates(self) -> Source:
        """The same with candidates as records, too: a tie by ``align.pairs.candidates.NOBODY`` each."""
        return _WithCandidates(self)


@dataclass(frozen=True)
class _WithCandidates:
    offers: ClassVar[Literal["pairs"]] = "pairs"

    records: Records

    def rows(self) -> Iterator[Row]:
        for row in self.records.rows():
            yield row if row.values is None else replace(row, values=as_a_tie(row.values))

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        return self.records.record(values)
