"""Typed settings: every mistake is told, with key, value, what is allowed and the near match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from align.config import Range, build
from align.errors import ConfigError
from align.models.settings import ModelSettings
from align.protocols import PairLoss
from align.settings import DatasetSettings, TrainingSettings


@dataclass(frozen=True)
class Inner:
    """A section within a section."""

    rate: Annotated[float, Range(low=0, high=1, low_open=True)] = 0.5


@dataclass(frozen=True)
class Outer:
    """One field of each kind."""

    kind: Literal["round", "square"]
    count: int = 1
    name: str | None = None
    sizes: tuple[int, ...] = ()
    inner: Inner | None = None
    flag: bool = False


def message(values: dict[str, object], cls: type = Outer) -> str:
    with pytest.raises(ConfigError) as caught:
        build(cls, values)
    return str(caught.value)


def test_values_arrive_typed() -> None:
    built = build(
        Outer, {"kind": "round", "sizes": [1, 2], "inner": {"rate": 1}, "name": "none", "flag": True}
    )
    assert built == Outer("round", sizes=(1, 2), inner=Inner(1.0), name=None, flag=True)
    assert isinstance(built.inner, Inner)
    assert isinstance(built.inner.rate, float)


def test_all_mistakes_are_told_at_once() -> None:
    text = message({"kind": "rond", "count": "three", "inner": {"rate": 0.0, "rat": 1}, "flags": True})
    assert "5 mistakes" in text
    assert "kind: takes one of round, square, got 'rond'. Did you mean 'round'?" in text
    assert "count: takes an integer, got 'three'" in text
    assert "inner.rate: takes a number above 0 and at most 1, got 0.0" in text
    assert "inner.rat: there is no such option. Did you mean 'rate'?" in text
    assert "flags: there is no such option. Did you mean 'flag'?" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "kind: is missing: type kind=..., it takes one of round, square"),
        ({"kind": "???"}, "kind: is missing"),
        ({"kind": "round", "count": True}, "count: takes an integer, got True"),
        ({"kind": "round", "count": 1.5}, "count: takes an integer, got 1.5"),
        ({"kind": "round", "flag": 1}, "flag: takes true or false, got 1"),
        ({"kind": "round", "sizes": 3}, "sizes: takes a list of an integer, got 3"),
        ({"kind": "round", "sizes": [1, "x"]}, "sizes[1]: takes an integer, got 'x'"),
        ({"kind": "round", "inner": 3}, "inner: holds settings (rate), got 3"),
        ({"kind": "round", "inner": {"rate": float("nan")}}, "inner.rate: takes a finite number, got nan"),
        ({"kind": "round", "inner": {"rate": float("inf")}}, "inner.rate: takes a finite number, got inf"),
    ],
)
def test_each_mistake_names_key_value_and_what_is_allowed(values: dict[str, object], words: str) -> None:
    assert words in message(values)


def test_options_that_exclude_each_other_are_refused() -> None:
    assert "micro_batch_size=3 does not divide batch_size=8" in message(
        {"batch_size": 8, "micro_batch_size": 3}, TrainingSettings
    )
    assert "give model.path" in message({"path": None, "scratch": None}, ModelSettings)


def test_accumulation_is_exact() -> None:
    assert build(TrainingSettings, {"batch_size": 8, "micro_batch_size": 2}).accumulation() == 4
    assert build(TrainingSettings, {"batch_size": 8}).accumulation() == 1


def test_a_source_takes_the_keys_that_its_rules_do_not() -> None:
    built = build(DatasetSettings, {"name": "toy", "bad_rows": "error", "seed": 7})
    assert built.bad_rows == "error"
    assert built.source.seed == 7  # type: ignore[attr-defined]
    text = message({"name": "toy", "bad_row": "error"}, DatasetSettings)
    assert "bad_row: there is no such option. Did you mean 'bad_rows'?" in text


def test_an_entry_that_is_a_component_is_named_by_its_key() -> None:
    @dataclass(frozen=True)
    class Many:
        losses: dict[str, PairLoss]
        inner: dict[str, Inner]

    Many.__annotations__ = {"losses": dict[str, PairLoss], "inner": dict[str, Inner]}
    values = {"losses": {"ipo": {}, "mine": {"name": "dpo", "beta": 0.3}}, "inner": {"a": {"rate": 1}}}
    built = build(Many, values)
    assert [type(loss).__name__ for loss in built.losses.values()] == ["Ipo", "Dpo"]
    assert built.losses["mine"].beta == 0.3  # type: ignore[attr-defined]
    assert built.inner == {"a": Inner(1.0)}
    text = message({"losses": {"ipoo": {}, "dpo": 3}, "inner": {}}, Many)
    assert "losses.ipoo: no loss named 'ipoo' in align/losses/. Did you mean 'ipo'?" in text
    assert "losses.dpo: takes a section with a name out of: " in text


def test_an_unknown_component_lists_the_known_ones() -> None:
    text = message({"name": "toyy"}, DatasetSettings)
    assert "no dataset named 'toyy' in data/. Did you mean 'toy'? Known: " in text
