"""Contrast: the same policy asked once for a good reply and once for a bad one (RLCD, Yang et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from align.collect._affixes import affixes_file, asked_for, read_affixes
from align.collect._bench import Abstained, judged
from align.types import Judge

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Draft, Outcome, Truth
    from align.protocols import Collecting
    from align.types import Result

__all__ = ["Contrast"]


@dataclass(frozen=True)
class Contrast:
    """Two replies to one prompt, one under an affix that asks for a good one, one under its opposite.

    The record holds the prompt as it was, without an affix. Unlike two samples of one prompt, the two differ
    in what the affix names, which is what makes the label right more often.
    """

    starts_from: ClassVar[Literal["prompts"]] = "prompts"

    affixes: str = "helpful"
    """A set of ``align/collect/affixes.json``, or a .json file with a list of pairs [positive, negative].
    A pair is drawn for each prompt."""
    label: Literal["prompt", "reward"] = "prompt"
    """The reply to the positive prompt is preferred, or whichever a reward scores higher (RLCD-Rescore)."""

    def __post_init__(self) -> None:
        read_affixes(self.affixes)

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """A policy; to rescore, a reward."""
        return ("writer", "reward") if self.label == "reward" else ("writer",)

    def open(self, bench: Bench) -> Collecting:
        """Nothing to load but the affixes."""
        bench.note("affixes", str(affixes_file(self.affixes)))
        return _Asked(self, bench)

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """What a policy that obeys would reach (see ``obedient``).

        Rescored: what the scores say of themselves (``claimed``), and ``labels/prompt_agreement``, the share
        of pairs that the reward and the affix order alike.
        """
        from align.collect._expected import claimed, obedient
        from align.evaluation.statistics import proportion

        if self.label == "prompt":
            return [] if truth is None else obedient(truth)
        agreed = [record.details["chosen_by"] == "positive" for record in found.records]
        shares = [proportion("labels/prompt_agreement", agreed)] if agreed else []
        return [*claimed(found.records, truth), *shares]


class _Asked:
    """Asks twice, and says which of the two is preferred."""

    def __init__(self, settings: Contrast, bench: Bench) -> None:
        self.settings, self.bench = settings, bench

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        from align.evaluation.policies import scores_of
        from align.evaluation.statistics import finite

        rng = Random(seed)
        pairs = [rng.choice(read_affixes(self.settings.affixes)) for _ in given]
        asked = [
            asked_for(item.prompt, affix, pair.opposite(affix))
            for item, pair in zip(given, pairs, strict=True)
            for affix in (pair.positive, pair.negative)
        ]
        drafts = self.bench.writer().write(asked, seed)
        scores = [1.0, 0.0] * len(given)
        if self.settings.label == "reward":
            plain = [item.prompt for item in given for _ in range(2)]
            found = scores_of(self.bench.scorer(), plain, [draft.reply.text for draft in drafts])
            scores = finite(found, "the reward's scores").tolist()
        return [
            (self._outcome(item, (pair.positive, pair.negative), drafts[2 * i : 2 * i + 2], scores[2 * i :]),)
            for i, (item, pair) in enumerate(zip(given, pairs, strict=True))
        ]

    def _outcome(
        self, item: Candidates, affixes: tuple[str, str], two: Sequence[Draft], scores: Sequence[float]
    ) -> Outcome:
        cut = [side for side, draft in zip(("positive", "negative"), two, strict=True) if not draft.ended]
        if cut:
            return Abstained("not_ended", f"the reply to the {' and the '.join(cut)} prompt was cut")
        rescored = self.settings.label == "reward"
        if rescored and scores[0] == scores[1]:
            return Abstained("tie", f"both score {scores[0]:g}")
        best = 0 if scores[0] > scores[1] else 1
        return judged(
            item.prompt,
            two[best].reply,
            two[1 - best].reply,
            self.bench.judge() if rescored else Judge("function", "contrast", self.settings.affixes),
            "contrast",
            margin=abs(scores[0] - scores[1]) if rescored else None,
            details={
                "affixes": {"positive": affixes[0], "negative": affixes[1]},
                "chosen_by": ("positive", "negative")[best],
            },
        )
