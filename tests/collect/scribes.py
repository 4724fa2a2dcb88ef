"""A bench whose writer answers as a test tells it to, and whose reward is a plain function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from align.collect._bench import Bench, Candidates, Draft, Writer
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.settings import SamplingSettings
from align.types import Judge, Message, Prompt, Reply

Say = Callable[[Prompt, int, int], Draft]
"""A prompt, the seed, and its place among those of one call -> the answer."""


def ask(text: str) -> Prompt:
    return (Message("user", text),)


def draft(text: str, ended: bool = True) -> Draft:
    return Draft(Reply(text, "stand-in"), ended)


@dataclass
class Scribe:
    """A writer that remembers what it was asked."""

    say: Say
    asked: list[Prompt] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        self.asked += prompts
        self.seeds.append(seed)
        return [self.say(prompt, seed, place) for place, prompt in enumerate(prompts)]

    def sampling_by(self, settings: SamplingSettings) -> Writer:
        raise NotImplementedError


@dataclass(frozen=True)
class Lengths:
    """A reward: the number of characters."""

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        return [float(len(reply)) for reply in replies]


@dataclass
class Desk:
    """A bench, and what was noted on it."""

    writer: Scribe | None = None
    others: dict[str, Scribe] = field(default_factory=dict)
    """Writers by the path of their model, or the name that a server has for it."""
    noted: dict[str, str | None] = field(default_factory=dict)

    def bench(self) -> Bench:
        def open_writer(role: str, place: ModelSettings | ServerSettings) -> Writer:
            name = place.model if isinstance(place, ServerSettings) else str(place.path)
            self.noted[role] = name
            return self.others[name]

        return Bench(
            seed=0,
            cache=Path("nowhere"),
            sampling=SamplingSettings(),
            open_writer=open_writer,
            note=lambda role, path: self.noted.__setitem__(role, path),
            writer_here=self.writer,
            scorer_here=Lengths(),
            judge_here=Judge("function", "lengths"),
        )


def given(*texts: str) -> list[Candidates]:
    return [Candidates(ask(text)) for text in texts]
