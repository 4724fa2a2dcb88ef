"""What is said: turns of a person, and the replies of one speaker or two, each with a memory of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from align.errors import ConfigError
from align.types import Message, Prompt


@dataclass(frozen=True)
class Turn:
    """One thing that the person said, and what each speaker replied: name -> text."""

    said: str
    replies: dict[str, str]
    attempt: int = 0
    """How often the replies were drawn again."""


@dataclass
class Conversation:
    """The turns so far; every speaker remembers the person's words and its own."""

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)

    def prompt(self, speaker: str, said: str) -> Prompt:
        """What a speaker is asked when the person says this next."""
        messages = [] if self.system is None else [Message("system", self.system)]
        for turn in self.turns:
            messages += [Message("user", turn.said), Message("assistant", turn.replies[speaker])]
        return (*messages, Message("user", said))

    def reset(self) -> None:
        """Forgets all turns; what the speakers were told before stays."""
        self.turns.clear()

    def tell(self, system: str | None) -> None:
        """Begins anew with other words before the conversation."""
        self.system = system
        self.reset()

    def take_back(self) -> Turn:
        """The last turn, which is forgotten, so that it can be answered again.

        Raises:
            ConfigError: nothing was said yet.
        """
        if not self.turns:
            raise ConfigError("/regenerate: nothing was said yet")
        return self.turns.pop()


def seed_of(seed: int, turn: int, attempt: int) -> int:
    """The seed of a reply: of the run's, of the turn's number and of how often it was drawn before.

    The same for both speakers, so that two checkpoints alike reply alike.
    """
    return (seed * 1_000_003 + turn * 1_009 + attempt) % 2**31
