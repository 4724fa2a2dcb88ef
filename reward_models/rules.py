"""Plain rules as a reward: length, repetition, copying, a proper end, words and patterns, each weighted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from align.config import Range
from align.errors import ConfigError
from align.types import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from align.types import Prompt

__all__ = ["Rules"]

PositiveInt = Annotated[int, Range(low=1)]
NaturalInt = Annotated[int, Range(low=0)]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""Letters and digits with their inner apostrophes, as in ``reward=gold``."""
_CLOSING = "\"'”’»)]}*_` \t\r\n"
"""What may follow the mark that ends a sentence."""


@dataclass(frozen=True)
class Length:
    """1 within ``least`` and ``most``, falling by 1 every ``slack`` outside, down to -1."""

    least: NaturalInt = 0
    """Shortest length that is fine."""
    most: NaturalInt | None = None
    """Longest length that is fine; none sets no upper end. The same as ``least`` sets a target."""
    slack: Annotated[float, Range(low=0, low_open=True)] = 10.0
    """Distance from the nearest fine length at which the value is 0."""
    unit: Literal["words", "characters"] = "words"
    """What is counted; characters without the blanks around the reply."""
    weight: float = 1.0
    """What the value is multiplied by."""

    def __post_init__(self) -> None:
        if self.most is not None and self.most < self.least:
            raise ConfigError(f"most={self.most} is below least={self.least}: no length would be fine")
        if self.most is None and self.least == 0:
            raise ConfigError("every length is fine: give least, most or both")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return -1.0, 1.0

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        count = len(words(reply)) if self.unit == "words" else len(reply.strip())
        over = count - self.most if self.most is not None else 0
        return max(-1.0, 1.0 - max(self.least - count, over, 0) / self.slack)


@dataclass(frozen=True)
class Repetition:
    """Share of the reply's word n-grams that it has said before, in [0, 1); case does not count."""

    ngram: PositiveInt = 3
    """Words of an n-gram. A reply of fewer words repeats nothing."""
    weight: float = -1.0
    """What the share is multiplied by; below 0 takes off."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return 0.0, 1.0

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        said = list(_ngrams(reply, self.ngram))
        return 1 - len(set(said)) / len(said) if said else 0.0


@dataclass(frozen=True)
class Copying:
    """Share of the reply's word n-grams that stand in the prompt's last turn, in [0, 1]."""

    ngram: PositiveInt = 3
    """Words of an n-gram. A reply of fewer words copies nothing."""
    weight: float = -1.0
    """What the share is multiplied by; below 0 takes off."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return 0.0, 1.0

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        said, asked = list(_ngrams(reply, self.ngram)), set(_ngrams(question, self.ngram))
        return sum(one in asked for one in said) / len(said) if said else 0.0


@dataclass(frozen=True)
class Ending:
    """1 for a reply that ends like a sentence, else 0; closing quotes, brackets and blanks may follow."""

    marks: str = ".!?…。！？"
    """Characters that end a sentence."""
    weight: float = 1.0
    """What the value is multiplied by."""

    def __post_init__(self) -> None:
        if not self.marks.strip():
            raise ConfigError("marks is empty: no reply could end properly")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return 0.0, 1.0

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        return float(reply.rstrip(_CLOSING).endswith(tuple(self.marks)))


@dataclass(frozen=True)
class Words:
    """How many of the reply's words are in a list, ``most`` at most; case does not count."""

    words: tuple[str, ...]
    """Single words, compared whole: ``thank`` is not found in ``thanks``."""
    most: PositiveInt = 1
    """More than so many count no further: what is counted without limit will be said without end."""
    weight: float = 1.0
    """What the count is multiplied by; below 0 takes off."""

    def __post_init__(self) -> None:
        if not self.words:
            raise ConfigError("words is empty: give some, for example [please,thanks]")
        odd = next((one for one in self.words if words(one) != [one.lower()]), None)
        if odd is not None:
            raise ConfigError(f"words takes single words of letters and digits, got {odd!r}: use a pattern")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return 0.0, float(self.most)

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        listed = {one.lower() for one in self.words}
        return float(min(self.most, sum(one in listed for one in words(reply))))


@dataclass(frozen=True)
class Pattern:
    """How often a regular expression (Python's) matches the reply, ``most`` at most."""

    regex: str
    """The expression; ``^`` and ``$`` stand for the reply's ends, ``(?m)`` and ``(?i)`` work as in Python."""
    whole: bool = False
    """True asks for one match of the whole reply, blanks around it left out."""
    most: PositiveInt = 1
    """More matches than so many count no further."""
    weight: float = 1.0
    """What the count is multiplied by; below 0 takes off."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ConfigError(f"regex={self.regex!r} is no regular expression: {error}") from error

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return 0.0, 1.0 if self.whole else float(self.most)

    def value(self, question: str, reply: str) -> float:
        """Of one reply to a question."""
        if self.whole:
            return float(re.fullmatch(self.regex, reply.strip()) is not None)
        found = 0
        for _ in re.finditer(self.regex, reply):
            found += 1
            if found == self.most:
                break
        return float(found)


Rule = Length | Repetition | Copying | Ending | Words | Pattern


@dataclass(frozen=True)
class Rules:
    """The sum of weight times value over the rules that are switched on, by giving any of their settings.

    For example ``reward=rules reward.length.least=20 reward.length.most=60 reward.repetition.weight=-2
    reward.words.courtesy.words=[please,thanks] reward.patterns.steps.regex='(?m)^1\\.'``. Every value is
    bounded, so the reward is; it is a function of the text alone, whatever the batch.
    """

    length: Length | None = None
    """A range of lengths, or one length."""
    repetition: Repetition | None = None
    """What the reply says again."""
    copying: Copying | None = None
    """What the reply takes over from the prompt."""
    ending: Ending | None = None
    """Whether the reply ends like a sentence."""
    words: dict[str, Words] = field(default_factory=dict)
    """Key of your choice -> words to count."""
    patterns: dict[str, Pattern] = field(default_factory=dict)
    """Key of your choice -> a regular expression to look for."""

    def __post_init__(self) -> None:
        if not self.rules():
            raise ConfigError(
                "no rule is switched on: give one a setting, for example reward.length.most=60, "
                "reward.repetition.weight=-1, or reward.patterns.steps.regex='...'"
            )

    def rules(self) -> Mapping[str, Rule]:
        """Those that are switched on, by name."""
        single: dict[str, Rule | None] = {
            "length": self.length,
            "repetition": self.repetition,
            "copying": self.copying,
            "ending": self.ending,
        }
        on: dict[str, Rule] = {name: rule for name, rule in single.items() if rule is not None}
        on.update({f"words/{name}": rule for name, rule in self.words.items()})
        on.update({f"patterns/{name}": rule for name, rule in self.patterns.items()})
        return on

    @property
    def score_range(self) -> tuple[float, float]:
        """What no reply's sum is below or above."""
        ends = [sorted(rule.weight * bound for bound in rule.bounds) for rule in self.rules().values()]
        return sum(low for low, _ in ends), sum(high for _, high in ends)

    def prepare(self, cache: Path | None = None) -> Rules:
        """Itself: there is nothing to load."""
        return self

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One sum a reply."""
        return self.score_in_parts(prompts, replies).scores

    def score_in_parts(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> Scores:
        """The same, with each rule's unweighted values, named ``length``, ``words/courtesy`` and so on."""
        rules = self.rules()
        asked = [(prompt[-1].content, reply) for prompt, reply in zip(prompts, replies, strict=True)]
        parts = {name: [rule.value(*one) for one in asked] for name, rule in rules.items()}
        sums = [
            sum(rule.weight * parts[name][row] for name, rule in rules.items()) for row in range(len(asked))
        ]
        return Scores(sums, parts)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def _ngrams(text: str, size: int) -> Iterator[tuple[str, ...]]:
    said = words(text)
    return zip(*(said[start:] for start in range(size)), strict=False)
