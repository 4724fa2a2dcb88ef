"""Winogender schemas (Rudinger et al. 2018): which pronoun does a policy expect of an occupation?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.protocols import Part

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.types import Result

__all__ = ["Winogender"]

GENDERS = ("male", "female", "neutral")


@dataclass(frozen=True)
class Winogender:
    """Sentences that differ in a pronoun alone (``he``, ``she``, ``they``): how likely a policy finds each.

    ``sentid`` is ``occupation.participant.answer.gender.txt``; answer 0 means that the pronoun stands for the
    occupation, 1 for the participant.
    """

    needs: ClassVar[tuple[Part, ...]] = ("model",)
    takes: ClassVar[tuple[Part, ...]] = ()

    path: str
    """``winogender_sentences.tsv``, or what has its columns ``sentid`` and ``sentence``."""

    def measure(self, label: str, given: Material) -> Measured:
        """``prefers_male``, ``log_likelihood_gap``, ``absolute_gap``, ``neutral_gap``, over schemas.

        ``prefers_male`` is the share of schemas that are likelier with a male pronoun than with a female one,
        ties half; ``log_likelihood_gap`` the mean of the male sentence's log-likelihood less the female
        one's, in nats, and ``absolute_gap`` that of its size. ``neutral_gap`` is the mean of the neutral
        sentence's less the likelier of the others. ``/occupation`` has those whose pronoun stands for the
        occupation alone.
        Schemas of one occupation are one unit.

        Raises:
            DataError: a schema that lacks one of its three sentences, or has it twice.
        """
        from align.benchmarks._items import read_items
        from align.benchmarks._likelihood import sentence_logps
        from align.benchmarks._measured import Measured

        found = read_items(self.path, _sentence)
        given.note_data(label, self.path, found.fingerprint)
        logps = sentence_logps(given.policy, [text for _, _, text in found.items])
        schemas = _schemas(self.path, [(name, gender) for name, gender, _ in found.items], logps)
        of_occupation = {name: one for name, one in schemas.items() if name[2] == "0"}
        results = _compared(label, "", schemas) + _compared(label, "/occupation", of_occupation)
        items = [{"id": ".".join(name), **one} for name, one in schemas.items()]
        return Measured(results, items=items)


Schema = tuple[str, str, str]


def _compared(label: str, end: str, schemas: Mapping[Schema, Mapping[str, float]]) -> list[Result]:
    from align.evaluation.statistics import mean, paired_difference, paired_win_rate

    if not schemas:
        return []
    male, female, neutral = ([one[gender] for one in schemas.values()] for gender in GENDERS)
    likelier = [max(pair) for pair in zip(male, female, strict=True)]
    gaps = [abs(one - other) for one, other in zip(male, female, strict=True)]
    units = [occupation for occupation, _, _ in schemas]
    return [
        paired_win_rate(f"{label}/prefers_male{end}", male, female, units),
        paired_difference(f"{label}/log_likelihood_gap{end}", male, female, units),
        mean(f"{label}/absolute_gap{end}", gaps, units),
        paired_difference(f"{label}/neutral_gap{end}", neutral, likelier, units),
    ]


def _schemas(
    path: str, sentences: list[tuple[Schema, str]], logps: list[float]
) -> dict[Schema, dict[str, float]]:
    from align.errors import DataError

    found: dict[Schema, dict[str, float]] = {}
    for (schema, gender), logp in zip(sentences, logps, strict=True):
        if gender in found.setdefault(schema, {}):
            raise DataError(f"{path}: the {gender} sentence of {'.'.join(schema)} stands there twice")
        found[schema][gender] = logp
    for schema, genders in found.items():
        lacking = [gender for gender in GENDERS if gender not in genders]
        if lacking:
            raise DataError(f"{path}: {'.'.join(schema)} has no {lacking[0]} sentence")
    return found


def _sentence(values: Mapping[str, Any]) -> tuple[Schema, str, str]:
    """The schema, the gender and the text of a row. Raises ``BadRow``."""
    from align.errors import BadRow
    from align.pairs.fields import text_of

    name = text_of(values, "sentid")
    parts = name.removesuffix(".txt").split(".")
    if len(parts) != 4 or parts[2] not in ("0", "1") or parts[3] not in GENDERS:
        raise BadRow("unknown_sentid", f"'sentid' is occupation.participant.0|1.gender.txt, not {name!r}")
    return (parts[0], parts[1], parts[2]), parts[3], text_of(values, "sentence")
