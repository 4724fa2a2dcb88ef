"""What a person may type besides words to the models: lines that begin with a slash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from align import registry
from align.config import Problems, section
from align.errors import ConfigError
from align.settings import SamplingSettings

Name = Literal["reset", "system", "regenerate", "set", "help", "quit"]

HELP = {
    "/reset": "forgets the conversation",
    "/system TEXT": "begins anew, with TEXT told to the models first; alone, tells them nothing",
    "/regenerate": "draws the last replies again, with another seed",
    "/set NAME=VALUE": "temperature, top_p, max_new_tokens or seed; alone, shows them",
    "/help": "this list",
    "/quit": "ends (so does the end of the input)",
}

_NAMES: tuple[Name, ...] = ("reset", "system", "regenerate", "set", "help", "quit")
_SETTABLE = ("temperature", "top_p", "max_new_tokens", "seed")


@dataclass(frozen=True)
class Command:
    """A line that begins with a slash; ``rest`` is what follows its name."""

    name: Name
    rest: str


def command_of(line: str) -> Command | None:
    """The command that a line holds; None where it is words to the models (two slashes begin such too).

    Raises:
        ConfigError: no such command.
    """
    if not line.startswith("/") or line.startswith("//"):
        return None
    word, _, rest = line[1:].partition(" ")
    for name in _NAMES:
        if word == name:
            return Command(name, rest.strip())
    near = registry.near(word, list(_NAMES))
    raise ConfigError(
        f"no command /{word}.{near} /help lists them; a line of words that begins so is typed //{word}"
    )


def changed(settings: SamplingSettings, seed: int, typed: str) -> tuple[SamplingSettings, int]:
    """Sampling settings and seed after ``/set NAME=VALUE``, checked as on the command line.

    Raises:
        ConfigError: no such setting, or a value that it does not take.
    """
    name, _, text = (part.strip() for part in typed.partition("="))
    if name not in _SETTABLE:
        raise ConfigError(f"/set {name}: settable are {', '.join(_SETTABLE)}")
    try:
        value: float = int(text) if name in ("max_new_tokens", "seed") else float(text)
    except ValueError as error:
        raise ConfigError(f"/set {name}={text}: takes a number") from error
    if name == "seed":
        if value < 0:
            raise ConfigError(f"/set seed={text}: takes a whole number from 0 on")
        return settings, int(value)
    problems = Problems()
    values = {key: getattr(settings, key) for key in settings.__dataclass_fields__} | {name: value}
    checked = section(SamplingSettings, values, "sampling", problems)
    problems.raise_if_any()
    return replace(settings, **{name: getattr(checked, name)}), seed


def shown(settings: SamplingSettings, seed: int) -> str:
    """``temperature=0.7 top_p=1.0 max_new_tokens=256 seed=0``."""
    values = {name: getattr(settings, name) for name in _SETTABLE[:-1]} | {"seed": seed}
    return " ".join(f"{name}={value}" for name, value in values.items())
