from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import DataError
from align.training.sampler import Sampler, ends_epoch, permutation, total_steps

sizes = st.integers(1, 40)


@given(seed=st.integers(0, 2**63), count=sizes, batch_size=sizes, epochs=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_each_item_is_drawn_exactly_once_an_epoch(
    seed: int, count: int, batch_size: int, epochs: int
) -> None:
    """The batches laid end to end are the epochs laid end to end: nothing dropped, nothing doubled."""
    steps = total_steps(None, float(epochs), batch_size, count)
    batches = [Sampler(seed, batch_size, count).batch(step) for step in range(1, steps + 1)]
    assert all(len(batch) == batch_size for batch in batches)
    drawn = [index for batch in batches for index in batch]
    for epoch in range(epochs):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert len(drawn) - epochs * count < batch_size  # the last batch is filled from the next epoch


def test_unshuffled_items_come_in_their_own_order_whatever_their_lengths() -> None:
    """A curriculum on disk stays one: the order of the data, epoch for epoch, across batches."""
    lengths = np.array([5, 1, 4, 2, 3])
    sampler = Sampler(7, 2, 5, window=2, lengths=lengths, shuffle=False)
    assert [sampler.batch(step) for step in range(1, 6)] == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]


@given(count=sizes, batch_size=sizes)
@settings(max_examples=60, deadline=None)
def test_every_epoch_ends_once(count: int, batch_size: int) -> None:
    """Counted against the positions: a step ends an epoch if it holds a position k * count - 1."""
    for step in range(1, 30):
        positions = range((step - 1) * batch_size, step * batch_size)
        assert ends_epoch(step, batch_size, count) == any((one + 1) % count == 0 for one in positions)


@given(
    seed=st.integers(0, 99), count=st.integers(1, 60), batch_size=st.integers(1, 9), window=st.integers(1, 5)
)
@settings(max_examples=60, deadline=None)
def test_grouping_by_length_keeps_each_item_its_one_turn(
    seed: int, count: int, batch_size: int, window: int
) -> None:
    """The same items in each window as without grouping: those of its positions, in another order."""
    lengths = np.random.default_rng(seed).integers(1, 50, count)
    grouped = Sampler(seed, batch_size, count, window, lengths)
    plain = Sampler(seed, batch_size, count)
    steps = math.ceil(2 * count / batch_size)
    drawn = [index for step in range(1, steps + 1) for index in grouped.batch(step)]
    before = [index for step in range(1, steps + 1) for index in plain.batch(step)]
    for epoch in range(2):
        first = epoch * count
        assert sorted(drawn[first : first + count]) == list(range(count))
        head = first + (-first % batch_size)
        for start in range(head, first + count, window * batch_size):
            end = min(start + window * batch_size, first + count)
            assert sorted(drawn[start:end]) == sorted(before[start:end])


def test_grouped_batches_hold_like_lengths() -> None:
    """Lengths 0 to 31, one window: each batch of 4 is a run of neighbours, and the runs are shuffled."""
    sampler = Sampler(0, 4, 32, window=8, lengths=np.arange(32))
    batches = [sampler.batch(step) for step in range(1, 9)]
    assert sorted(batches) == [list(range(first, first + 4)) for first in range(0, 32, 4)]
    assert batches != sorted(batches)


def test_a_batch_larger_than_the_data_spans_epochs() -> None:
    """Ten of four items: two epochs whole, and half of a third."""
    assert sorted(Counter(Sampler(0, 10, 4).batch(1)).values()) == [2, 2, 3, 3]


def test_epochs_and_seeds_differ_in_their_order() -> None:
    orders = [tuple(permutation(seed, epoch, 30)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_the_order_is_the_same_on_every_machine() -> None:
    """PCG64 seeded by (0, 0): a change of numpy's stream would break resuming, and must be seen."""
    assert permutation(0, 0, 8).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]


@pytest.mark.parametrize(
    ("max_steps", "epochs", "batch_size", "count", "expected"),
    [
        (7, 99.0, 8, 24, 7),
        (None, 1.0, 8, 24, 3),
        (None, 1.0, 8, 25, 4),
        (None, 0.5, 8, 24, 2),  # 12 items: a batch and a half
        (None, 0.1, 1, 30, 3),  # in floats 0.1 * 30 is 3.0000000000000004, a fourth step
        (None, 1.1, 1, 10, 11),
        (None, 0.001, 8, 24, 1),
        (None, 1e-7, 1, 10**7, 1),
        (None, 2.0, 100, 24, 1),
    ],
)
def test_steps(max_steps: int | None, epochs: float, batch_size: int, count: int, expected: int) -> None:
    assert total_steps(max_steps, epochs, batch_size, count) == expected


def test_no_items() -> None:
    with pytest.raises(DataError, match="training split is empty"):
        total_steps(3, 1.0, 8, 0)
