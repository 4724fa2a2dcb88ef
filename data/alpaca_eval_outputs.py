"""One model's outputs to AlpacaEval's instructions (``model_outputs.json``), as replies to imitate.

A row has ``instruction`` (and perhaps ``input``) and ``output``. Outputs of several models become pairs where
their files are joined by instruction (``stage=collect collect=strength``), which is no reader's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.pairs.fields import instruction_prompt, text_of
from align.pairs.files import content_hash, read_rows
from align.types import Demonstration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["AlpacaEvalOutputs"]


@dataclass(frozen=True)
class AlpacaEvalOutputs:
    """Instructions with one model's output each."""

    offers: ClassVar[Literal["demonstrations"]] = "demonstrations"

    path: str
    """A file (``model_outputs.json``), or a folder with a file a split."""

    def rows(self) -> Iterator[Row]:
        """One row an instruction."""
        return read_rows(self.path)

    def content_hash(self) -> str | None:
        """That of the file."""
        return content_hash(self.path)

    def record(self, values: Mapping[str, Any]) -> Demonstration:
        """One output as a demonstration. Raises ``BadRow``: what is wrong with a field."""
        return Demonstration(id="", prompt=instruction_prompt(values), reply=text_of(values, "output"))
