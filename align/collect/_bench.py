"""What a collecting method is given, what it works with, and what it hands back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.pairs.check import pair_id, prompt_id, record_id
from align.settings import SamplingSettings
from align.types import CandidatePair, Judge, PreferenceRecord, Prompt, Reply

if TYPE_CHECKING:
    from collections import Counter

    from align.protocols import KnownTruth, Scorer


@dataclass(frozen=True)
class Candidates:
    """What a collecting method starts from: a prompt, and the replies to it that are there already."""

    prompt: Prompt
    replies: tuple[Reply, ...] = ()
    record: PreferenceRecord | None = None
    """The judgement that the replies came with, where there is one."""


@dataclass(frozen=True)
class Abstained:
    """No pair, and why: a word to count by (``tie``, ``not_ended``), and more for a person to read."""

    reason: str
    detail: str = ""


Outcome = PreferenceRecord | CandidatePair | Abstained
"""What a collecting method comes to: a judged pair, one for others to judge, or none for a reason. Never a
tie in silence."""


@dataclass(frozen=True)
class Collected:
    """The records, or the pairs that others are to judge, in their final order; and what came to neither."""

    records: list[PreferenceRecord]
    candidates: list[CandidatePair]
    abstained: Counter[str]
    """How often there was no pair, by reason."""
    outcomes: list[Outcome]
    """All that the method came to, before anything was arranged, chosen or left out."""


@dataclass(frozen=True)
class Draft:
    """A reply that somebody wrote, and whether it ended by itself: one that was cut teaches little."""

    reply: Reply
    ended: bool = True

    @property
    def text(self) -> str:
        """The reply's."""
        return self.reply.text


class Writer(Protocol):
    """Who answers prompts: a policy in this process, or a server."""

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        """One reply to each prompt, in order; a prompt that is given twice is answered twice."""

    def sampling_by(self, settings: SamplingSettings) -> Writer:
        """The same one, with other settings than the stage's."""

    def fits(self, prompt: Prompt) -> bool:
        """Whether all of a prompt is read, as far as can be known here."""

    @property
    def name(self) -> str:
        """Who writes, as records say it."""

    @property
    def version(self) -> str | None:
        """Which one of that name, by a hash of its weights where those are known."""


OpenWriter = Callable[[str, ModelSettings | ServerSettings], Writer]
"""A role for run.json (``source.gpt4``), and where it is -> somebody who writes, its origin noted."""


@dataclass(frozen=True)
class Truth:
    """What is known of the labels: how the source draws them, and the reward that is the truth."""

    source: KnownTruth
    gold: Scorer


@dataclass(frozen=True)
class Bench:
    """What ``Collector.open`` is given."""

    seed: int
    """The run's."""
    cache: Path
    """The run's."""
    sampling: SamplingSettings
    open_writer: OpenWriter
    note: Callable[[str, str | None], None]
    """Writes down in run.json what else went in: a role, and the path of a file or folder."""
    writer_here: Writer | None = None
    scorer_here: Scorer | None = None
    judge_here: Judge | None = None

    def writer(self) -> Writer:
        """Who writes: that of ``model.path`` or ``server``; for methods that need one."""
        if self.writer_here is None:
            raise ConfigError("there is nobody who writes: give model.path=RUN, or a server")
        return self.writer_here

    def scorer(self) -> Scorer:
        """The ``reward``, ready to score; for methods that need one."""
        if self.scorer_here is None:
            raise ConfigError("there is nothing that scores: give reward=NAME")
        return self.scorer_here

    def judge(self) -> Judge:
        """Who the ``reward`` is in records."""
        if self.judge_here is None:
            raise ConfigError("there is nothing that scores: give reward=NAME")
        return self.judge_here


def judge_named(name: str, hashes: Sequence[str], *, asks: bool) -> Judge:
    """Who a reward is in records: a model where it reads or asks one; its version hashes what it reads."""
    if not hashes and not asks:
        return Judge("function", name)
    version = hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16] if hashes else None
    return Judge("model", name, version)


def judged(
    prompt: Prompt,
    preferred: Reply,
    other: Reply,
    judge: Judge,
    method: str,
    *,
    margin: float | None = None,
    template: str | None = None,
    details: dict[str, Any] | None = None,
) -> PreferenceRecord:
    """A record of one judgement, with its ids. Which reply stands first follows from the texts alone.

    So the place tells nothing of the preference, and comes back the same when the work is done again.
    """
    replies = placed(prompt, preferred, other)
    record = PreferenceRecord(
        id="",
        prompt=prompt,
        replies=replies,
        preferred="first" if replies[0] is preferred else "second",
        judge=judge,
        margin=margin,
        method=method,
        template=template,
        details=details or {},
    )
    return named(record)


def placed(prompt: Prompt, one: Reply, other: Reply) -> tuple[Reply, Reply]:
    """Two replies in an order that their texts draw, whichever of them was given first."""
    pair = PreferenceRecord("", prompt, (one, other), "tie", Judge("function", "placed"))
    low, high = (one, other) if one.text <= other.text else (other, one)
    return (low, high) if int(pair_id(pair), 16) % 2 == 0 else (high, low)


def named(record: PreferenceRecord) -> PreferenceRecord:
    """A record with those ids that it lacks, from its texts."""
    return replace(
        record,
        id=record.id or record_id(record),
        prompt_id=record.prompt_id or prompt_id(record.prompt),
        pair_id=record.pair_id or pair_id(record),
    )
