"""Questions to a model that are made of a template, asked until the answer can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from align.errors import ConfigError
from align.registry import near
from align.types import Message, Prompt

_PLACE = re.compile(r"\{([a-z_]+)\}")


class Said(Protocol):
    """What a model said: a ``ServedReply``, a ``SampledReply``."""

    @property
    def text(self) -> str: ...

    @property
    def ended(self) -> bool: ...


S = TypeVar("S", bound=Said)


@dataclass(frozen=True)
class Reading:
    """How an answer is told to be readable, and what is said, how often, to one that is not."""

    readable: Callable[[str], bool]
    reminder: str = ""
    reminders: int = 0


def read_template(path: Path, places: Sequence[str], key: str) -> str:
    """A template out of a file; ``places`` are the names that may stand in its braces.

    Other braces stay what they are. ``key`` is the setting that named the file, for messages.

    Raises:
        ConfigError: the file cannot be read, or has a name in braces that nobody fills.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}={path} cannot be read: {error}") from error
    stray = next(iter(sorted(places_in(text) - set(places))), None)
    if stray is not None:
        raise ConfigError(
            f"{key}={path}: nobody fills {{{stray}}}.{near(stray, list(places))} Known: {', '.join(places)}"
        )
    return text


def refuse_pattern(pattern: str, holds: str) -> None:
    """Raises ``ConfigError`` where a pattern is no regular expression with one group, which holds that."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"pattern={pattern!r} is no regular expression: {error}") from error
    if groups != 1:
        raise ConfigError(f"pattern={pattern!r} has {groups} groups, one is needed: {holds}")


def places_in(template: str) -> set[str]:
    """Names that stand in a template's braces."""
    return set(_PLACE.findall(template))


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its places filled in one pass, so that braces in a value stay what they are."""
    return _PLACE.sub(lambda place: values[place[1]], template)


def transcript(prompt: Prompt) -> str:
    """A conversation as text: ``User: ...``, one turn under the other."""
    return "\n".join(f"{one.role.capitalize()}: {one.content}" for one in prompt)


def answers_to(
    write: Callable[[Sequence[Prompt], int], Sequence[S]], questions: Sequence[Prompt], reading: Reading
) -> list[list[S]]:
    """Each question's answers, up to the first that can be read; at most ``reminders`` more than one.

    ``write`` is given conversations, and which turn of asking this is (0 first), and answers each in order.
    """
    conversations: list[Prompt] = list(questions)
    answers: list[list[S]] = [[] for _ in questions]
    left = list(range(len(questions)))
    for turn in range(reading.reminders + 1):
        for place, said in zip(left, write([conversations[i] for i in left], turn), strict=True):
            answers[place].append(said)
            conversations[place] += (Message("assistant", said.text), Message("user", reading.reminder))
        left = [place for place in left if not reading.readable(answers[place][-1].text)]
        if not left:
            break
    return answers
