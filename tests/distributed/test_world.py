"""Ranks by the environment, shares that lose and double nothing, and nothing at all for one rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.distributed.world import (
    World,
    gathered,
    in_shares,
    joined,
    led,
    of_first,
    on_any,
    own_share,
    shared_out,
    sums,
    world,
)
from align.errors import ConfigError
from align.training.update import cut, passes

T = TypeVar("T")


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_alone")
def test_alone_everything_is_ones_own() -> None:
    assert world() == World(0, 1, 0)
    assert world().leads
    with joined() as this, joined() as same:
        assert this == same == World()
        assert gathered("a") == ["a"]
        assert of_first("a") == "a"
        assert sums({"loss": (3.0, 2.0)}) == {"loss": (3.0, 2.0)}
        assert on_any(True)
        assert not on_any(False)
        assert led(lambda: 7) == 7
        assert shared_out([1, 2, 3], lambda one: one * 2) == [2, 4, 6]
        assert in_shares(3, lambda own: [one * 2 for one in own]) == [0, 2, 4]


@pytest.mark.usefixtures("_alone")
def test_what_rank_0_raises_alone_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        led(lambda: 1 // 0)


def test_the_environment_says_which_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert world() == World(5, 8, 1)
    assert not world().leads


@pytest.mark.parametrize(
    ("rank", "size", "words"), [("2", "2", "RANK=2 of WORLD_SIZE=2"), ("one", "2", "whole numbers")]
)
def test_a_rank_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str, words: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError, match=words):
        world()


@given(count=st.integers(0, 60), size=st.integers(1, 9))
def test_shares_end_to_end_are_the_whole(count: int, size: int) -> None:
    """In order, each part once; no rank has two more than another."""
    shares = [_as_rank(rank, size, lambda: own_share(range(count))) for rank in range(size)]
    assert [one for share in shares for one in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(count=st.integers(1, 60), size=st.integers(1, 9), micro=st.none() | st.integers(1, 20))
def test_micro_batches_are_the_batch_and_every_rank_passes_as_often(
    count: int, size: int, micro: int | None
) -> None:
    """Every item once; without a size, no more micro-batches than ranks; no rank has more than its passes."""
    chunks = _as_rank(0, size, lambda: cut(count, micro))
    assert [index for chunk in chunks for index in range(count)[chunk]] == list(range(count))
    assert micro is not None or len(chunks) <= size
    most = _as_rank(0, size, lambda: passes(chunks))
    shares = [_as_rank(rank, size, lambda: own_share(chunks)) for rank in range(size)]
    assert max(map(len, shares)) == most


def _as_rank(rank: int, size: int, work: Callable[[], T]) -> T:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", str(rank))
        patch.setenv("WORLD_SIZE", str(size))
        return work()
