"""The nouns that travel between rooms as text and numbers; ``align/tensors.py`` has those made of tokens.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["system", "user", "assistant"]
Preferred = Literal["first", "second", "tie", "both_bad"]

RECORD_VERSION = 2
"""Version of ``PreferenceRecord`` on disk; a reader refuses one that it does not know."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = tuple[Message, ...]
"""A conversation up to the reply: ends with a ``user`` turn (or a ``system`` one), never an assistant's."""


@dataclass(frozen=True)
class Location:
    """Where a row came from: a file (or Hub name, or generator) and its 1-based line or row number."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Reply:
    """One reply and what made it: the policy, how it was sampled (temperature, top_p ...), the seed."""

    text: str
    model: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Judge:
    """Who preferred. ``kind`` says how: a person, a model, a plain function, or the order of a file.

    ``name`` is a person's pseudonym or a model's name; ``version`` says which of several of that name.
    """

    kind: Literal["human", "model", "function", "file"]
    name: str
    version: str | None = None


@dataclass(frozen=True)
class Strength:
    """How strongly a side is preferred, as a scale has it: step 1 (hardly) to step ``of`` (by far)."""

    step: int
    of: int


@dataclass(frozen=True)
class PreferenceRecord:
    """What is kept on disk of one judgement of two replies, ties and all.

    Several records may judge one pair: ``pair_id`` is that of the pair whichever reply stands first, ``id``
    that of the judgement. Whoever reads a record without ids gives it those of its texts.
    """

    id: str
    prompt: Prompt
    replies: tuple[Reply, Reply]
    preferred: Preferred
    judge: Judge
    margin: float | None = None
    """How much better the preferred reply is, >= 0, in the source's unit (a rating or reward difference)."""
    strength: Strength | None = None
    """The same as somebody chose it on a scale."""
    method: str | None = None
    """How the pair came about: a name of ``align/collect/``, ``annotate``, or a source's own word."""
    prompt_id: str = ""
    pair_id: str = ""
    guideline: str | None = None
    """Version of the guidelines that were followed."""
    asked_at: str | None = None
    judged_at: str | None = None
    """When the pair was shown and when it was judged: ISO 8601, in UTC."""
    template: str | None = None
    """Hash of the template that asked for the replies or for the judgement."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is known, as JSON values: a reason, criteria, flags, scores, the principle of a critique."""
    location: Location | None = None
    version: int = RECORD_VERSION

    def pair(self) -> PreferencePair | None:
        """The decisive view that training sees; None for a tie or two bad replies."""
        if self.preferred not in ("first", "second"):
            return None
        first, second = self.replies
        chosen, rejected = (first, second) if self.preferred == "first" else (second, first)
        return PreferencePair(
            id=self.id,
            prompt=self.prompt,
            chosen=chosen.text,
            rejected=rejected.text,
            margin=self.margin,
            location=self.location,
        )


@dataclass(frozen=True)
class CandidatePair:
    """Two replies that nobody has judged yet: a ``PreferenceRecord`` less its judgement."""

    prompt: Prompt
    replies: tuple[Reply, Reply]
    method: str | None = None
    """How the pair came about, or was chosen: a name of ``align/collect/``."""
    prompt_id: str = ""
    pair_id: str = ""
    asked_at: str | None = None
    template: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is known, as JSON values: why the pair was chosen."""
    location: Location | None = None


@dataclass(frozen=True)
class PreferencePair:
    """One prompt, the reply that was preferred and the one that was not."""

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    margin: float | None = None
    location: Location | None = None


@dataclass(frozen=True)
class Demonstration:
    """One prompt and one reply to imitate (``stage=sft``)."""

    id: str
    prompt: Prompt
    reply: str
    location: Location | None = None


@dataclass(frozen=True)
class UnpairedExample:
    """One prompt and one reply that is good or bad by itself (``stage=kto``)."""

    id: str
    prompt: Prompt
    reply: str
    desirable: bool
    location: Location | None = None


Record = PreferenceRecord | Demonstration | UnpairedExample
"""What a source makes of one row."""
Example = PreferencePair | Demonstration | UnpairedExample
"""What training sees of it, as text."""


@dataclass(frozen=True)
class Row:
    """One raw row of a file: its values, or the problem that kept it from being read."""

    location: Location
    values: Mapping[str, Any] | None
    problem: tuple[str, str] | None = None
    """(reason, detail) where the line could not even be parsed; ``values`` is None then."""
    split: Literal["train", "test"] | None = None
    """Where the data comes with splits of its own; None leaves the row to the split by prompt."""


@dataclass(frozen=True)
class Scores:
    """Scores of replies, and what they are made of: name -> one number a reply, in the replies' order."""

    scores: list[float]
    parts: Mapping[str, list[float]]


@dataclass(frozen=True)
class Result:
    """One line of ``results.json``: a number that can be trusted as far as its interval says.

    ``n`` is how many independent units (prompts, pairs) it rests on; ``method`` names the interval
    (``wilson``, ``bootstrap``, ...), or ``exact`` where there is none and the bounds are None.
    """

    metric: str
    value: float
    n: int
    ci_low: float | None
    ci_high: float | None
    method: str
