"""Principles by which replies are criticised and revised: a data file, one a line."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from align.collect._verdict import PROMPTS
from align.errors import ConfigError

FILE = PROMPTS / "principles.jsonl"
"""The principles that are drawn from where the user gives no file."""


@dataclass(frozen=True)
class Principle:
    """What a reply should be, and how a model is asked to hold one against it."""

    name: str
    principle: str
    critique: str
    """The request for a critique."""
    revision: str
    """The request for a revision."""


def read_principles(given: str | None) -> list[Principle]:
    """The user's principles, or the package's; names differ.

    Raises:
        ConfigError: the file cannot be read, or a line is no principle.
    """
    path = FILE if given is None else Path(given).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"collect.principles={path} cannot be read: {error}") from error
    found = [_principle(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"collect.principles={path} holds no principle")
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"collect.principles={path} names {twice!r} twice")
    return found


def _principle(line: str, place: str) -> Principle:
    names = [field.name for field in fields(Principle)]
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    right = isinstance(values, dict) and set(values) == set(names)
    if not right or not all(isinstance(one, str) and one.strip() for one in values.values()):
        raise ConfigError(f"collect.principles: {place} has to be a JSON object of texts: {', '.join(names)}")
    return Principle(**values)
