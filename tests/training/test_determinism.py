from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import torch

from align.training.determinism import (
    GeneratorStates,
    generator_states,
    generators_kept,
    restore_generators,
    seed_everything,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def draws() -> tuple[float, ...]:
    """Of each kind; an odd number of normals, whose second half the generators keep for later."""
    normals = random.gauss(0, 1), float(np.random.randn()), float(torch.randn(1))
    return (*normals, random.random(), float(np.random.rand()), float(torch.rand(1)))


def test_a_seed_fixes_every_generator() -> None:
    seed_everything(3)
    first = draws()
    seed_everything(3)
    assert draws() == first
    seed_everything(4)
    assert not set(draws()) & set(first)


def test_a_seed_may_be_larger_than_numpy_takes() -> None:
    seed_everything(2**40 + 1)
    assert draws()


def test_states_survive_json() -> None:
    """Saved in the middle of a pair of normals, restored from their JSON."""
    seed_everything(3)
    draws()
    states = generator_states(CPU)
    expected = [draws() for _ in range(3)]
    plain = json.loads(json.dumps(states.plain))
    restore_generators(GeneratorStates(states.tensors, plain), CPU)
    assert [draws() for _ in range(3)] == expected


def test_what_is_drawn_inside_leaves_no_trace_even_after_an_error() -> None:
    seed_everything(3)
    expected = draws()
    seed_everything(3)
    with suppress(KeyError), generators_kept(CPU):
        draws()
        raise KeyError
    assert draws() == expected


def test_kernels_are_deterministic() -> None:
    seed_everything(0)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
