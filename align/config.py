"""Yaml values -> frozen dataclasses, or one error that lists everything that is wrong.

``build`` walks a dataclass's fields, checks each value's type and range, and collects every problem
before it raises, so that a user mends a config in one go. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from align import protocols, registry
from align.errors import ConfigError

T = TypeVar("T")

GROUP_OF_PROTOCOL: dict[Any, str] = {
    protocols.Source: "dataset",
    protocols.PairLoss: "loss",
    protocols.ScoreLoss: "reward_loss",
    protocols.UnpairedLoss: "unpaired_loss",
    protocols.RewardModel: "reward",
    protocols.Collector: "collect",
    protocols.Benchmark: "benchmark",
    protocols.Tracker: "tracking",
    protocols.Search: "sweep",
    protocols.Stage: "stage",
}
"""A field of this type holds a component of that group, chosen by the section's ``name``."""

REST = "rest"
"""``Annotated[Protocol, REST]``: the component takes the keys of the section that no sibling field takes."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number; ``*_open`` excludes the bound itself."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies within the bounds; NaN never does."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        words = []
        if self.low != -math.inf:
            words.append(f"{'above' if self.low_open else 'at least'} {self.low:g}")
        if self.high != math.inf:
            words.append(f"{'below' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(words)


class Problems:
    """What is wrong so far, each with the dotted key it is about."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, message: str) -> None:
        self.lines.append(f"{key}: {message}" if key else message)

    def raise_if_any(self) -> None:
        """Raises one ``ConfigError`` that lists all of them."""
        if self.lines:
            count = len(self.lines)
            head = "the config has a mistake" if count == 1 else f"the config has {count} mistakes"
            raise Mistakes("\n  ".join([f"{head}:", *self.lines]), self.lines)


class Mistakes(ConfigError):
    """A ``ConfigError`` that knows each mistake by itself, for whoever tells them under another name."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = tuple(lines)


def build(cls: type[T], values: Mapping[str, Any], key: str = "") -> T:
    """``cls`` from plain values; ``key`` is the dotted name of the section for messages.

    Raises:
        ConfigError: lists every unknown key (with the near match), missing key, wrong type and value out
            of range at once.
    """
    problems = Problems()
    built = section(cls, values, key, problems)
    problems.raise_if_any()
    return typing.cast(T, built)


def section(cls: type, values: Any, key: str, problems: Problems) -> Any:
    """One dataclass from one mapping; returns None where a problem was added."""
    if not isinstance(values, Mapping):
        problems.add(key, f"holds settings ({', '.join(field_types(cls))}), got {values!r}")
        return None
    before = len(problems.lines)
    hints = field_types(cls)
    rest = next((name for name, hint in hints.items() if _is_rest(hint)), None)
    unknown = [name for name in values if name not in hints or name == rest]
    arguments: dict[str, Any] = {}
    if rest is not None:
        own = {name: values[name] for name in unknown}
        siblings = [name for name in hints if name != rest]
        arguments[rest] = value_of(get_args(hints[rest])[0], own, key, problems, siblings)
    else:
        for name in unknown:
            problems.add(_join(key, name), unknown_key(name, list(hints)))
    for field in dataclasses.fields(cls):
        if field.name == rest:
            continue
        where = _join(key, field.name)
        if field.name in values and values[field.name] != "???":
            arguments[field.name] = value_of(hints[field.name], values[field.name], where, problems)
        elif _required(field) or field.name in values:
            problems.add(where, f"is missing: type {where}=..., it takes {describe(hints[field.name])}")
    if len(problems.lines) > before:
        return None
    try:
        return cls(**arguments)
    except ConfigError as error:
        problems.add(key, str(error))
        return None


def value_of(hint: Any, value: Any, key: str, problems: Problems, siblings: list[str] | None = None) -> Any:
    """One value checked against one type; adds a problem where it does not fit."""
    if hint in GROUP_OF_PROTOCOL:
        return _component(GROUP_OF_PROTOCOL[hint], value, key, problems, siblings or [])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        checked = _scalar(arguments[0], value, key, problems, shown=hint)
        if checked is not None and not arguments[1].holds(checked):
            problems.add(key, f"takes {describe(hint)}, got {value!r}")
        return checked
    if origin in (Union, types.UnionType):
        if value is None or value == "none":
            return None
        inner = next(argument for argument in arguments if argument is not type(None))
        return value_of(inner, value, key, problems)
    if origin is tuple:
        if isinstance(value, str) and arguments[0] is str:
            value = [value]  # one of a list, typed without brackets
        if not isinstance(value, list | tuple):
            problems.add(key, f"takes a list of {describe(arguments[0])}, got {value!r}")
            return None
        return tuple(value_of(arguments[0], one, f"{key}[{i}]", problems) for i, one in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            problems.add(key, f"takes name: value entries, got {value!r}")
            return None
        return {
            name: value_of(arguments[1], _named(arguments[1], name, one), _join(key, name), problems)
            for name, one in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return section(typing.cast(type, hint), value, key, problems)
    return _scalar(hint, value, key, problems)


def _scalar(hint: Any, value: Any, key: str, problems: Problems, shown: Any = None) -> Any:
    """A value without parts; ``shown`` is the type to describe where it says more than ``hint``."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value in choices:
            return value
        near = registry.near(str(value), [str(choice) for choice in choices])
        problems.add(key, f"takes {describe(hint)}, got {value!r}.{near}")
        return None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        problems.add(key, f"takes a finite number, got {value!r}")
        return None
    if isinstance(value, hint) and not (hint is not bool and isinstance(value, bool)):
        return value
    problems.add(key, f"takes {describe(shown or hint)}, got {value!r}")
    return None


def _component(group: str, value: Any, key: str, problems: Problems, siblings: list[str]) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        options = ", ".join(registry.known(group))
        problems.add(key, f"takes a section with a name out of: {options}; got {value!r}")
        return None
    own = {name: one for name, one in value.items() if name != "name"}
    try:
        cls = registry.component(group, value["name"])
    except ConfigError as error:
        problems.add(key, str(error))
        return None
    names = list(field_types(cls))
    choices = names + siblings
    for stray in (name for name in own if name not in names):
        problems.add(_join(key, stray), unknown_key(stray, choices))
    return section(cls, {name: one for name, one in own.items() if name in names}, key, problems)


def _named(hint: Any, key: str, value: Any) -> Any:
    """An entry that is a component is named by its key, where it has no name of its own."""
    is_component = hint in GROUP_OF_PROTOCOL or (
        dataclasses.is_dataclass(hint)
        and any(_is_rest(one) for one in field_types(typing.cast(type, hint)).values())
    )
    return {"name": key, **value} if is_component and isinstance(value, Mapping) else value


def unknown_key(name: str, choices: list[str]) -> str:
    """The message for a key that nothing reads."""
    options = ", ".join(sorted(choices)) or "none"
    return f"there is no such option.{registry.near(name, choices)} Known: {options}"


def describe(hint: Any) -> str:
    """A type in words: ``a number above 0``, ``one of drop, error``, ``an integer or none``."""
    if hint in GROUP_OF_PROTOCOL:
        return f"a {GROUP_OF_PROTOCOL[hint]} (a section with a name)"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}"
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return f"{describe(inner)} or none"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list of {describe(arguments[0])}"
    words = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    return words.get(hint, "a section of settings")


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> its type, annotations resolved."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _is_rest(hint: Any) -> bool:
    return get_origin(hint) is Annotated and REST in get_args(hint)[1:]


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)
