"""A judge's preferences between two outputs: AlpacaEval's ``annotations.json`` (Li et al. 2023).

A row has ``instruction`` (and perhaps ``input``), ``output_1``, ``output_2``, ``generator_1``,
``generator_2``, ``annotator`` and ``preference``: 1 or 2, a draw as 0 (earlier versions) or 1.5 (later ones),
and null where the judge's answer could not be read, which is no judgement. A judge that weighs its answer
gives a number between: 1 + P(the second is better); the margin is then P(better) - P(worse).

The labels hold for the outputs that stand beside them in the row, not for those of a model's outputs file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import instruction_prompt, known_of, maybe_text, number_of, text_of, value_of
from align.pairs.files import content_hash, read_rows
from align.types import Judge, PreferenceRecord, Preferred, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.types import Row

__all__ = ["AlpacaEvalAnnotations"]


@dataclass(frozen=True)
class AlpacaEvalAnnotations:
    """Pairs of outputs with a judge's preference."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file (``annotations.json``), or a folder with a file a split."""
    judges: Literal["model", "human"] = "model"
    """What the annotators are: models (AlpacaEval's own), or people (AlpacaFarm's cross-annotations)."""

    def rows(self) -> Iterator[Row]:
        """One row a judgement."""
        return read_rows(self.path)

    def content_hash(self) -> str | None:
        """That of the file."""
        return content_hash(self.path)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One judgement as a record.

        Raises:
            BadRow: ``not_judged``, ``unknown_preference``, or what is wrong with a field.
        """
        preferred, margin = _preferred(values)
        first, second = (
            Reply(text_of(values, f"output_{i}"), model=maybe_text(values, f"generator_{i}")) for i in (1, 2)
        )
        return PreferenceRecord(
            id="",
            prompt=instruction_prompt(values),
            replies=(first, second),
            preferred=preferred,
            judge=Judge(self.judges, str(value_of(values, "annotator"))),
            margin=margin,
            method="alpaca_eval",
            details=known_of(values, "dataset"),
        )


def _preferred(values: Mapping[str, Any]) -> tuple[Preferred, float | None]:
    if "preference" in values and values["preference"] is None:
        raise BadRow("not_judged", "'preference' is null: the judge's answer could not be read")
    number = number_of(values, "preference")
    if number in (0, 1.5):
        return "tie", None
    if not 1 <= number <= 2:
        raise BadRow("unknown_preference", f"'preference' is 0 or a number from 1 to 2, not {number:g}")
    margin = None if number in (1, 2) else abs(2 * number - 3)
    return ("first" if number < 1.5 else "second"), margin
