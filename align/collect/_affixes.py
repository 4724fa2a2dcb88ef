"""Words at the end of a turn that ask for a good reply or for a bad one, in pairs; the pairs are data.

A set is a name in ``affixes.json``, or a JSON file that holds a list of pairs [positive, negative].
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from align import registry
from align.errors import ConfigError
from align.types import Prompt

SHIPPED = Path(__file__).with_name("affixes.json")


@dataclass(frozen=True)
class Affixes:
    """What asks for a good reply, and its opposite."""

    positive: str
    negative: str

    def opposite(self, affix: str) -> str:
        """The other one of the two."""
        return self.negative if affix == self.positive else self.positive


def affixes_file(name: str) -> Path:
    """Where a set stands: the file of that path, else the shipped one."""
    return Path(name) if name.endswith(".json") else SHIPPED


@functools.cache
def read_affixes(name: str) -> tuple[Affixes, ...]:
    """The pairs of a set.

    Raises:
        ConfigError: there is no such set or file, or it is no list of pairs of different texts.
    """
    path = affixes_file(name)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"affixes={name} cannot be read as JSON: {error}") from error
    if path == SHIPPED:
        if name not in found:
            known = sorted(found)
            raise ConfigError(
                f"no affixes named '{name}'.{registry.near(name, known)} Known: {', '.join(known)}, "
                f"or a .json file with a list of pairs"
            )
        found = found[name]
    pairs = found if isinstance(found, list) else []
    if not pairs or not all(map(_is_a_pair, pairs)):
        raise ConfigError(
            f"affixes={name} is no list of pairs of different texts, for example "
            f'[["giving a helpful answer", "giving an unhelpful answer"]]'
        )
    return tuple(Affixes(positive.strip(), negative.strip()) for positive, negative in pairs)


def affixed(text: str, affix: str) -> str:
    """A turn that asks for the reply after it to be as the affix says."""
    return f"{text} ({affix})"


def asked_for(prompt: Prompt, affix: str, opposite: str) -> Prompt:
    """A prompt whose reply is asked for with an affix, and whose earlier replies were with its opposite.

    As in RLCD (Yang et al. 2023): a model that finds the opposite beside the earlier turns does not take
    the affix for what they have in common. Theirs stands in front of a reply ("Assistant (affix):"); that is
    the end of the turn before it, where any chat template can have it.
    """
    last = len(prompt) - 1
    return tuple(
        replace(message, content=affixed(message.content, affix if place == last else opposite))
        if place == last or (message.role != "assistant" and prompt[place + 1].role == "assistant")
        else message
        for place, message in enumerate(prompt)
    )


def _is_a_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(one, str) and one.strip() for one in value)
        and value[0].strip() != value[1].strip()
    )
