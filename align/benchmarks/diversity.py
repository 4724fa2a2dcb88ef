"""How varied a policy's replies are: distinct n-grams, lengths, ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.protocols import Part
from align.settings import PositiveInt

if TYPE_CHECKING:
    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured

__all__ = ["Diversity"]


@dataclass(frozen=True)
class Diversity:
    """Distinct-n (Li et al. 2016) over all replies to the dataset's unseen prompts."""

    needs: ClassVar[tuple[Part, ...]] = ("model", "dataset", "sampling")
    takes: ClassVar[tuple[Part, ...]] = ()

    most: PositiveInt = 4
    """Longest n-grams that are counted, in tokens."""

    def measure(self, label: str, given: Material) -> Measured:
        """``distinct_1`` ... ``distinct_<most>``, ``reply_length`` (tokens), ``ended`` and ``empty``.

        A distinct-n is the share of n-grams of tokens that differ, over all replies that are no blanks. It
        falls as replies are added: compare equal numbers of replies only. It has no interval.
        """
        from align.benchmarks._measured import Measured
        from align.evaluation.compare import distinct, sample_rows
        from align.evaluation.statistics import mean, proportion

        answers, prompts = given.dataset_answers("policy"), given.prompts
        blank = [not reply.text.strip() for reply in answers.replies]
        kept = [reply.token_ids for reply, one in zip(answers.replies, blank, strict=True) if not one]
        results = [
            distinct(f"{label}/distinct_{size}", kept, size) for size in range(1, self.most + 1) if kept
        ]
        results += [
            mean(f"{label}/reply_length", [len(reply.token_ids) for reply in answers.replies]),
            proportion(f"{label}/ended", [reply.ended for reply in answers.replies]),
            proportion(f"{label}/empty", blank),
        ]
        return Measured(results, sample_rows(prompts, [answers], label))
