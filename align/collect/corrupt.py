"""A good reply against its damaged self: shuffled, cut, repeating itself, off topic, or negated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal, cast

from align.errors import ConfigError
from align.settings import NonNegative

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth
    from align.collect._damage import Kind
    from align.protocols import Collecting
    from align.types import PreferencePair, Result

__all__ = ["Corrupt"]

_AGAIN = 8
"""Times that each reply is damaged anew for what is to be expected."""


@dataclass(frozen=True)
class Corrupt:
    """For tests and probes: labels that are right by construction, of a difference that is known by name.

    The good reply is a demonstration, or the chosen side of a pair. Each field is the weight with which its
    kind of damage is drawn. A reply that the drawn kind cannot damage makes no pair (counted by reason):
    another kind instead would shift the weights.
    """

    shuffled_words: NonNegative = 1.0
    """All words in another order."""
    shuffled_sentences: NonNegative = 1.0
    """All sentences in another order."""
    truncated: NonNegative = 1.0
    """The first words only: one word to two thirds of them."""
    repeated: NonNegative = 1.0
    """One sentence again at the end, two to four times."""
    off_topic: NonNegative = 1.0
    """A good reply to another prompt of the chunk."""
    negated: NonNegative = 1.0
    """One auxiliary verb with "not" added or taken away."""

    def __post_init__(self) -> None:
        if not any(self.weights().values()):
            raise ConfigError("all kinds of damage have weight 0: give one more than 0, truncated=1 say")

    def weights(self) -> dict[Kind, float]:
        """Kind of damage -> its weight."""
        from align.collect._damage import KINDS

        return {kind: getattr(self, kind) for kind in KINDS}

    @property
    def starts_from(self) -> Literal["demonstrations"]:
        """Demonstrations; of pairs, the chosen replies."""
        return "demonstrations"

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """Nothing."""
        return ()

    def open(self, bench: Bench) -> Collecting:
        """Nothing to load."""
        return self._damaged

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """``corrupt/<kind>_pairs``; where the truth is known ``corrupt/<kind>_accuracy`` too.

        By construction the original is the better one; the truth agrees as far as it sees the damage. One
        that does not look at the order of words scores a shuffled reply like the original: a tie counts half.
        ``labels/expected_accuracy`` is what it says of the same replies damaged anew, ``_AGAIN`` times.
        """
        from align.collect._results import agreement_by
        from align.types import Result

        results = agreement_by("corrupt", found.records, truth, lambda one: str(one.details["damage"]))
        pairs = [(str(one.details["damage"]), pair) for one in found.records if (pair := one.pair())]
        if truth is not None and pairs:
            expected = _damaged_anew(pairs, truth)
            results.append(Result("labels/expected_accuracy", expected, len(pairs), None, None, "exact"))
        return results

    def _damaged(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        return [(self._outcome(given, place, Random(f"{seed} {place}")),) for place in range(len(given))]

    def _outcome(self, given: Sequence[Candidates], place: int, rng: Random) -> Outcome:
        from align.collect._bench import Abstained, judged
        from align.collect._damage import Undamaged, damaged
        from align.types import Judge, Reply

        item, weights = given[place], self.weights()
        (good,) = item.replies
        (kind,) = rng.choices(list(weights), list(weights.values()))
        others = [one.replies[0].text for one in given if one.prompt != item.prompt]
        worse = damaged(kind, good.text, rng, rng.choice(others) if others else None)
        if isinstance(worse, Undamaged):
            return Abstained(worse.reason, f"{kind}: {good.text[:80]!r}")
        made = Reply(worse, good.model, {**good.sampling, "damage": kind})
        judge = Judge("function", "corrupt")
        return judged(item.prompt, good, made, judge, "corrupt", details={"damage": kind})


def _damaged_anew(pairs: Sequence[tuple[str, PreferencePair]], truth: Truth) -> float:
    """Share of new damages of the same kinds to the same replies that the truth scores lower; ties half."""
    import numpy as np

    from align.collect._damage import damaged

    rng = Random("damaged anew")
    prompts, originals, worse = [], [], []
    for kind, pair in pairs:
        for _ in range(_AGAIN):
            _, other = rng.choice(pairs)
            found = damaged(cast("Kind", kind), pair.chosen, rng, other.chosen)
            if isinstance(found, str):
                prompts.append(pair.prompt)
                originals.append(pair.chosen)
                worse.append(found)
    gaps = np.array(truth.gold.score(prompts, originals)) - np.array(truth.gold.score(prompts, worse))
    return float((np.sign(gaps) + 1).mean() / 2)
