"""Labels turned round at a known rate, for studies of how robust a method is to wrong ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from align.config import Range
from align.settings import NaturalInt

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth
    from align.protocols import Collecting
    from align.types import PreferencePair, PreferenceRecord, Result

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """Flips each decisive label with probability ``rate``, whatever the replies.

    A record is flipped where a number in [0, 1) that its id alone decides lies below the rate: a larger rate
    flips the same records and more, and neither order nor number of the others matters. A flipped record
    keeps who judged it, and says in its details that it was flipped; ties stay ties.
    """

    rate: Annotated[float, Range(low=0, high=1)] = 0.1
    """Share of the decisive labels to turn round."""
    seed: NaturalInt = 0
    """Draws the numbers; apart from the run's ``seed``, so that runs over seeds share their noise."""

    @property
    def starts_from(self) -> Literal["pairs"]:
        """Judged pairs."""
        return "pairs"

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """Nothing."""
        return ()

    def open(self, bench: Bench) -> Collecting:
        """Nothing to load."""
        return self._flipped

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """``noise/rate``: the share that was flipped, which should have ``noise/asked`` in its interval.

        Where the truth is known, ``noise/accuracy_before`` (a, of the labels as they were) and
        ``labels/expected_accuracy``: a (1 - rate) + (1 - a) rate.
        """
        from align.evaluation.accuracy import accuracy
        from align.evaluation.statistics import proportion
        from align.types import Result

        pairs = [(record, pair) for record in found.records if (pair := record.pair()) is not None]
        if not pairs:
            return []
        flips = [bool(record.details["flipped"]) for record, _ in pairs]
        count = len(pairs)
        results = [
            proportion("noise/rate", flips),
            Result("noise/asked", self.rate, count, None, None, "exact"),
        ]
        if truth is not None:
            before = [_turned(pair) if flip else pair for flip, (_, pair) in zip(flips, pairs, strict=True)]
            prompts = [pair.prompt for pair in before]
            chosen = truth.gold.score(prompts, [pair.chosen for pair in before])
            rejected = truth.gold.score(prompts, [pair.rejected for pair in before])
            found_before = accuracy(chosen, rejected, prompts, "noise")[0]
            right = found_before.value
            expected = right * (1 - self.rate) + (1 - right) * self.rate
            results.append(replace(found_before, metric="noise/accuracy_before"))
            results.append(Result("labels/expected_accuracy", expected, count, None, None, "exact"))
        return results

    def flips(self, record: PreferenceRecord) -> bool:
        """Whether a record's label is turned round."""
        if record.preferred not in ("first", "second"):
            return False
        digest = hashlib.blake2b(f"{self.seed} {record.id}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53) < self.rate

    def _flipped(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        return [(self._outcome(item.record),) for item in given if item.record is not None]

    def _outcome(self, record: PreferenceRecord) -> PreferenceRecord:
        flip = self.flips(record)
        preferred = {"first": "second", "second": "first"}[record.preferred] if flip else record.preferred
        details = {**record.details, "flipped": flip, "noise": {"rate": self.rate, "seed": self.seed}}
        return replace(record, preferred=preferred, method="noise", details=details)  # type: ignore[arg-type]


def _turned(pair: PreferencePair) -> PreferencePair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)
