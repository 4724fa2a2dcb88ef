"""What the tests of collecting methods share: a bench without models, and records of the embedded world."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.collect._bench import Abstained, Bench, Candidates, Collected, Outcome, Truth, named
from align.protocols import Scorer
from align.settings import SamplingSettings
from align.types import CandidatePair, Message, PreferenceRecord, Reply
from data.toy import Toy
from reward_models.gold import Gold


def bench(scorer: Scorer | None = None, writer: Any = None) -> Bench:
    """Somewhere to work; no writer is ever opened."""

    def open_writer(*_: object) -> Any:
        raise AssertionError("nobody writes here")

    return Bench(0, Path("unused"), SamplingSettings(), open_writer, lambda *_: None, writer, scorer, None)


TRUTH = Truth(Toy(), Gold())


@functools.cache
def toy_records(count: int) -> tuple[PreferenceRecord, ...]:
    """The first pairs of the embedded world, with their ids."""
    toy = Toy(pairs=count)
    return tuple(named(toy.record(row.values)) for row in toy.rows() if row.values is not None)


def pairs(records: Sequence[PreferenceRecord]) -> list[Candidates]:
    """What a method that starts from pairs is given."""
    return [Candidates(record.prompt, record.replies, record) for record in records]


def demonstrations(texts: Sequence[str]) -> list[Candidates]:
    """One reply to each of as many prompts."""
    return [Candidates((Message("user", f"q{i}"),), (Reply(text),)) for i, text in enumerate(texts)]


def found(outcomes: Sequence[tuple[Outcome, ...]]) -> Collected:
    """Outcomes as a report is given them, with nothing arranged."""
    flat = [one for each in outcomes for one in each]
    return Collected(
        [one for one in flat if isinstance(one, PreferenceRecord)],
        [one for one in flat if isinstance(one, CandidatePair)],
        Counter(one.reason for one in flat if isinstance(one, Abstained)),
        flat,
    )
