"""What a benchmark hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from align.types import Result


@dataclass(frozen=True)
class Measured:
    """Results, and the rows that they rest on."""

    results: Sequence[Result]
    samples: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """Rows of ``samples.jsonl``: a prompt and the replies to it (``evaluation.compare.sample_rows``)."""
    items: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """Rows of ``items.jsonl``: one thing each that was measured without a reply being written."""
