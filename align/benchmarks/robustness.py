"""Does a reward keep its mind where replies are misspelt, or said in other words?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from align.benchmarks._asked import Asked
from align.errors import ConfigError
from align.protocols import Part
from align.settings import Fraction, NaturalInt, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.protocols import Scorer
    from align.types import PreferencePair, Result

    Change = Callable[[str], str | None]

__all__ = ["Robustness"]


@dataclass(frozen=True)
class Robustness:
    """Pairs of a dataset, scored as they are and changed: typing errors of our own, paraphrases of others."""

    needs: ClassVar[tuple[Part, ...]] = ("reward", "dataset")
    takes: ClassVar[tuple[Part, ...]] = ()

    typos: Fraction = 0.1
    """Share of the words that get a typing error (one a text at least); 0 leaves this part out."""
    paraphrases: str | None = None
    """A file with ``text`` and ``paraphrase`` in each row; or else ``writer``, or none."""
    writer: Asked | None = None
    """A model that says texts in other words; what it wrote is kept in ``paraphrases.jsonl`` of the run."""
    change: Literal["replies", "prompt", "both"] = "replies"
    """What is changed: both replies, the prompt's last turn, or all of these."""
    seed: NaturalInt = 0
    """Draws the typing errors; apart from the run's, so that runs over seeds compare."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Split that the pairs come from."""
    limit: PositiveInt | None = None
    """First pairs that are taken; none takes all."""

    def __post_init__(self) -> None:
        if self.paraphrases is not None and self.writer is not None:
            raise ConfigError("paraphrases come from a file or from a writer: give one of them")
        if self.typos == 0 and self.paraphrases is None and self.writer is None:
            raise ConfigError("nothing is changed: give typos=0.1, paraphrases=FILE or a writer")

    def measure(self, label: str, given: Material) -> Measured:
        """``plain_accuracy`` and ``plain_ties`` of the pairs as they are; for ``typos`` and ``paraphrase``:

        * ``<change>_accuracy``: of the changed pairs, ties half; ``<change>_accuracy_drop``: by how much it
          is lower than that of the same pairs unchanged, pair by pair.
        * ``<change>_flips``: share of pairs of which it now says the opposite, among those that it decides
          before and after; ``<change>_undecided``: share that it scores alike before or after.
        * ``<change>_unchanged``: share of all pairs of which a text could not be changed (no word, no
          paraphrase): they are in none of the above.

        Pairs of one prompt are one unit.
        """
        from align.benchmarks._measured import Measured
        from align.errors import DataError
        from align.evaluation.accuracy import accuracy

        records = [item.record for item in given.examples("pairs", self.split, self.limit)]
        pairs = [pair for record in records if record is not None and (pair := record.pair()) is not None]
        if not pairs:
            raise DataError(f"{label}: the {self.split} split holds no decisive pair")
        margins = _margins(given.scorer, pairs)
        zeros, prompts = [0.0] * len(pairs), [pair.prompt for pair in pairs]
        results = [
            replace(one, metric=f"{label}/plain_{name}")
            for name, one in zip(("accuracy", "ties"), accuracy(margins, zeros, prompts)[:2], strict=True)
        ]
        items = [{"id": pair.id, "margin": one} for pair, one in zip(pairs, margins, strict=True)]
        for name, change in self._changes(label, given, pairs).items():
            changed = [self._changed(pair, change) for pair in pairs]
            kept = [place for place, one in enumerate(changed) if one is not None]
            scored = _margins(given.scorer, [one for one in changed if one is not None])
            after = dict(zip(kept, scored, strict=True))
            results += _compared(f"{label}/{name}", prompts, margins, after)
            for place, one in after.items():
                items[place][f"{name}_margin"] = one
        return Measured(results, items=items)

    def _changes(self, label: str, given: Material, pairs: Sequence[PreferencePair]) -> dict[str, Change]:
        """What is done to a text, by its name in metrics."""
        from align.benchmarks._paraphrases import asked_paraphrases, read_paraphrases
        from align.benchmarks._typos import with_typos

        found: dict[str, Change] = {}
        if self.typos:
            found["typos"] = lambda text: with_typos(text, self.typos, self.seed)
        if self.paraphrases is not None:
            others, fingerprint = read_paraphrases(self.paraphrases)
            given.note_data(label, self.paraphrases, fingerprint)
            found["paraphrase"] = others.get
        elif self.writer is not None:
            writer = self.writer.open(f"writer.{label}", given)
            texts = [text for pair in pairs for text in self._texts(pair)]
            path = given.run.directory / "paraphrases.jsonl"
            found["paraphrase"] = asked_paraphrases(writer, texts, given.seed, path).get
        return found

    def _texts(self, pair: PreferencePair) -> list[str]:
        replies = [pair.chosen, pair.rejected] if self.change != "prompt" else []
        return replies + ([pair.prompt[-1].content] if self.change != "replies" else [])

    def _changed(self, pair: PreferencePair, change: Change) -> PreferencePair | None:
        """The pair with every text changed that is to be; None where one of them cannot be."""
        texts = [change(text) for text in self._texts(pair)]
        whole = [text for text in texts if text is not None]
        if len(whole) < len(texts):
            return None
        if self.change != "replies":
            last = replace(pair.prompt[-1], content=whole.pop())
            pair = replace(pair, prompt=(*pair.prompt[:-1], last))
        return pair if self.change == "prompt" else replace(pair, chosen=whole[0], rejected=whole[1])


def _margins(scorer: Scorer, pairs: Sequence[PreferencePair]) -> list[float]:
    """Score of the chosen reply less that of the rejected one."""
    from align.evaluation.policies import scores_of

    if not pairs:
        return []
    prompts, replies = [pair.prompt for pair in pairs], [pair.chosen for pair in pairs]
    scores = scores_of(scorer, prompts * 2, replies + [pair.rejected for pair in pairs])
    return [scores[place] - scores[place + len(pairs)] for place in range(len(pairs))]


def _compared(
    name: str, prompts: Sequence[object], margins: Sequence[float], after: dict[int, float]
) -> list[Result]:
    import numpy as np

    from align.evaluation.statistics import paired_difference, proportion
    from align.report.console import say

    unchanged = proportion(f"{name}_unchanged", [place not in after for place in range(len(margins))])
    if not after:
        say(f"note: {name}: no pair could be changed")
        return [unchanged]
    units = [prompts[place] for place in after]
    before_B = np.sign([margins[place] for place in after])
    after_B = np.sign(list(after.values()))
    decided = (before_B != 0) & (after_B != 0)
    results = [
        proportion(f"{name}_accuracy", (after_B + 1) / 2, units),
        paired_difference(f"{name}_accuracy_drop", (before_B + 1) / 2, (after_B + 1) / 2, units),
    ]
    if decided.any():
        own = [unit for unit, one in zip(units, decided, strict=True) if one]
        results.append(proportion(f"{name}_flips", (before_B != after_B)[decided], own))
    return [*results, proportion(f"{name}_undecided", ~decided, units), unchanged]
