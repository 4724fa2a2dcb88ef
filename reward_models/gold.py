"""The embedded world's truth: a plain function of the text, whose parts pull against each other.

A good reply answers what was asked, is polite, gives a reason, has the right length, does not repeat
itself and ends properly. Nothing here is monotone: the third courtesy is worth less than the second and
the fifth costs, a second reason takes back the first, a long reply loses what it gained by saying more, and
a keyword said again is a repetition. A proxy that has learned "more is better" from few pairs is
therefore right on the data and wrong where a policy takes it, as in Gao, Schulman and Hilton (2022).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from align.config import Range

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from align.protocols import Scorer
    from align.types import Prompt

__all__ = ["Gold"]


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


COURTESIES = _listed("glad gladly happy hope kind kindly please pleasure thank thanks welcome")
"""Words that are counted as a courtesy."""

RUDE = _listed("boring dumb foolish lazy nonsense silly stupid ugly")
"""Words that are counted as rude."""

REASONS = _listed("because since therefore")
"""Words that are counted as the start of a reason."""

COMMON = _listed(
    """
    a about advice after again all also am an and any are as asked at be been before begin best but by can
    could did do does done during easy ever explain few fine first for friend from go had has have help her
    him his how i if in is it its just know like little lot me might more most much must my need needs never
    new no not now of often on one or our please quite really right should so some start such tell than that
    the their them then there these they this those to too tried try under up us use very want was way we
    well were what when where which who why will with without word words would wrong yes you your
    """
)
"""Words that say nothing about the subject: neither asked for in a prompt nor a repetition in a reply."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MOST_NEGATIVE_LENGTH = -3.0


@dataclass(frozen=True)
class Features:
    """What the gold reward sees of a reply, before the weights."""

    answer: float
    """Share of the distinct content words of the question that the reply takes up, in [0, 1]."""
    manners: float
    """c(4 - c)/4 for c courtesies, best at two, less one for each rude word; within [-1, 1]."""
    reason: float
    """r(2 - r) for r reasons, best at one; within [-1, 1]."""
    length: float
    """1 - ((words - best) / spread)^2, best at ``best_words``; within [-3, 1]."""
    repetition: float
    """Share of the reply's content words that it has said before, in [0, 1)."""
    ending: float
    """1 where the reply ends with a full stop, an exclamation or a question mark, else 0."""


@dataclass(frozen=True)
class Gold:
    """The known reward of ``dataset=toy``: a weighted sum of ``Features``.

    The labels of ``dataset=toy`` are drawn with the defaults; other weights score by another taste.
    """

    answer: Annotated[float, Range(low=0)] = 2.0
    """Reward for taking up everything that was asked."""
    manners: Annotated[float, Range(low=0)] = 1.5
    """Reward for two courtesies and no rude word."""
    reason: Annotated[float, Range(low=0)] = 1.0
    """Reward for exactly one reason."""
    length: Annotated[float, Range(low=0)] = 1.0
    """Reward for a reply of ``best_words`` words."""
    repetition: Annotated[float, Range(low=0)] = 2.0
    """Taken off a reply in proportion to what it repeats."""
    ending: Annotated[float, Range(low=0)] = 0.5
    """Reward for ending like a sentence."""
    best_words: Annotated[float, Range(low=1)] = 20.0
    """Length that is best, in words."""
    spread_words: Annotated[float, Range(low=0, low_open=True)] = 10.0
    """Words away from ``best_words`` at which the length is worth nothing."""

    def prepare(self, cache: Path | None = None) -> Scorer:
        """Itself: there is nothing to load."""
        return self

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """The reward of each reply to the last turn of its prompt."""
        return [
            gold_reward(prompt[-1].content, reply, self)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]


def gold_reward(question: str, reply: str, weights: Gold) -> float:
    """How good a reply is to a question. Finite and bounded for any text, the empty one included."""
    return sum(breakdown(question, reply, weights).values())


def breakdown(question: str, reply: str, weights: Gold) -> dict[str, float]:
    """What each feature adds to the reward; the values sum to ``gold_reward``."""
    seen: dict[str, float] = asdict(features(question, reply, weights.best_words, weights.spread_words))
    sign = {"repetition": -1.0}
    return {name: sign.get(name, 1.0) * getattr(weights, name) * value for name, value in seen.items()}


def features(question: str, reply: str, best_words: float = 20.0, spread_words: float = 10.0) -> Features:
    """The unweighted features of a reply."""
    said = words(reply)
    asked = {word for word in words(question) if word not in COMMON}
    courtesies = sum(word in COURTESIES for word in said)
    rude = sum(word in RUDE for word in said)
    reasons = sum(word in REASONS for word in said)
    content = [word for word in said if word not in COMMON]
    return Features(
        answer=len(asked.intersection(said)) / len(asked) if asked else 0.0,
        manners=_within(courtesies * (4 - courtesies) / 4 - rude, -1.0),
        reason=_within(reasons * (2 - reasons), -1.0),
        length=_within(1 - ((len(said) - best_words) / spread_words) ** 2, _MOST_NEGATIVE_LENGTH),
        repetition=1 - len(set(content)) / len(content) if content else 0.0,
        ending=float(reply.rstrip().endswith((".", "!", "?"))),
    )


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters and digits, inner apostrophes kept."""
    return [word.lower() for word in _WORD.findall(text)]


def _within(value: float, low: float) -> float:
    return max(low, min(1.0, value))
