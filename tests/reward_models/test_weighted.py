"""Weighted sums: by hand, in parts, nested, and typed on the command line with errors that name the place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from align.compose import run_from
from align.errors import ConfigError, NonFiniteError
from align.protocols import KnownRange, ScoresInParts
from align.types import Message
from reward_models.bradley_terry import BradleyTerry
from reward_models.gold import Gold
from reward_models.rules import Ending, Length, Rules
from reward_models.weighted import Part, Sum, Weighted

PROMPTS = [(Message("user", "How do I wash the goat?"),)] * 3
REPLIES = ["Wash the goat.", "Thanks", ""]


@dataclass(frozen=True)
class Fixed:
    """A reward that gives the same score to everything, and remembers its cache."""

    value: float
    known: tuple[float, float] | None = None

    @property
    def score_range(self) -> tuple[float, float] | None:
        return self.known

    def prepare(self, cache: Path | None = None) -> Fixed:
        assert cache == Path("cache")
        return self

    def score(self, prompts: Any, replies: Any) -> list[float]:
        return [self.value for _ in replies]


def made(**parts: tuple[Any, float]) -> Sum:
    return Weighted({name: Part(*part) for name, part in parts.items()}).prepare(Path("cache"))


def test_a_sum_by_hand():
    scorer = made(gold=(Gold(), 0.5), constant=(Fixed(3.0), -2.0))
    gold = Gold().score(PROMPTS, REPLIES)
    assert scorer.score(PROMPTS, REPLIES) == pytest.approx([0.5 * one - 6 for one in gold])
    assert scorer.score([], []) == []
    found = scorer.score_in_parts(PROMPTS, REPLIES)
    assert found.parts == {"gold": gold, "constant": [3.0] * 3}
    assert isinstance(scorer, KnownRange)
    assert isinstance(scorer, ScoresInParts)


def test_parts_of_parts_and_sums_of_sums():
    rules = Rules(ending=Ending(), length=Length(most=2))
    inner = Weighted({"rules": Part(rules, 2.0)})
    scorer = made(inner=(inner, 10.0), one=(Fixed(1.0), 1.0))
    found = scorer.score_in_parts(PROMPTS, REPLIES)
    assert found.scores == pytest.approx([20 * one + 1 for one in rules.score(PROMPTS, REPLIES)])
    assert list(found.parts) == ["inner", "inner/rules", "inner/rules/length", "inner/rules/ending", "one"]
    assert found.parts["inner/rules/ending"] == [1, 0, 0]


def test_the_range_is_the_sum_of_the_ranges_that_count():
    """2 * (-1, 3) - 1 * (0, 5) lies in (-2 - 5, 6 - 0)."""
    both = {"a": (Fixed(0.0, (-1.0, 3.0)), 2.0), "b": (Fixed(0.0, (0.0, 5.0)), -1.0)}
    assert made(**both).score_range == (-7, 6)
    assert made(**both, c=(Fixed(0.0), 0.0)).score_range == (-7, 6)
    assert made(**both, c=(Fixed(0.0), 0.1)).score_range is None
    assert made(**both, c=(Fixed(0.0, (-math.inf, 1.0)), 1.0)).score_range == (-math.inf, 7)
    assert made(gold=(Gold(), 1.0)).score_range is None


def test_a_part_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteError, match=r"gave nan to reply 0 of 3: its parts are a 1\.0, b nan"):
        made(a=(Fixed(1.0), 1.0), b=(Fixed(math.nan), 0.0)).score(PROMPTS, REPLIES)


def typed(*words: str) -> Any:
    base = ["stage=evaluate", "model.path=a", "reference.path=b", "reward=weighted"]
    stage: Any = run_from([*base, *words], []).stage
    return stage.reward


def test_a_part_is_named_by_its_key_or_by_name():
    found = typed(
        "reward.parts.gold.weight=0.5", "reward.parts.gold.ending=1",
        "reward.parts.helpful.name=bradley_terry", "reward.parts.helpful.path=runs/seed=1",
    )  # fmt: skip
    assert found == Weighted(
        {"gold": Part(Gold(ending=1.0), 0.5), "helpful": Part(BradleyTerry("runs/seed=1"))}
    )


def test_a_part_may_have_parts():
    found = typed("reward.parts.weighted.parts.gold.weight=2", "reward.parts.weighted.weight=3")
    assert found == Weighted({"weighted": Part(Weighted({"gold": Part(Gold(), 2.0)}), 3.0)})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "reward: a weighted sum has parts, none is given"),
        (
            ["reward.parts.gld.weight=1"],
            "reward.parts.gld: no reward named 'gld' in reward_models/. Did you mean",
        ),
        (["reward.parts.a.name=gld"], "reward.parts.a: no reward named 'gld'"),
        (
            ["reward.parts.gold.wieght=1"],
            "reward.parts.gold.wieght: there is no such option. Did you mean 'weight'",
        ),
        (["reward.parts.gold.weight=much"], "reward.parts.gold.weight: takes a number, got 'much'"),
        (["reward.parts.gold.ending=-1"], "reward.parts.gold.ending: takes a number at least 0"),
        (["reward.parts.bradley_terry.weight=1"], "reward.parts.bradley_terry.path: is missing"),
        (["reward.parts.gold=1"], "reward.parts.gold: holds settings"),
        (["reward.parts=gold"], "reward.parts: takes name: value entries"),
    ],
)
def test_mistakes_name_their_place(words: list[str], message: str):
    with pytest.raises(ConfigError) as caught:
        typed(*words)
    assert message in str(caught.value)
