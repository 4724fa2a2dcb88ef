"""The same command twice gives the same bits: one function seeds everything, two move generators' states."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seeds python's, numpy's and torch's global generators (all devices); asks for deterministic kernels.

    Kernels that have no deterministic version warn instead of raising. On CUDA, cuBLAS is deterministic only
    with a fixed workspace, which it reads when it starts: call this before the first CUDA operation.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise every torch.empty is filled with NaN, which costs time and hides nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def strictly() -> Iterator[None]:
    """Where deterministic kernels are asked for, those that have none raise inside instead of warning.

    For backward passes: attention on CUDA takes its deterministic one only where nothing less is allowed.
    """
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warns)


def seed_of(rank: int, seed: int) -> int:
    """What a rank's global generators are seeded with in training: its dropout is its own. Rank 0's is the
    run's, and what all ranks must agree on it draws for them."""
    return seed if rank == 0 else int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])


@dataclass(frozen=True)
class GeneratorStates:
    """Where the global generators stand: ``tensors`` (uint8) are torch's, ``plain`` (JSON) the others'."""

    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]


def generator_states(device: torch.device) -> GeneratorStates:
    """The states of python's, numpy's and torch's generators; CUDA's where that is the device."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    version, words, gauss = random.getstate()
    _, key, position, has_gauss, cached = np.random.get_state()
    return GeneratorStates(
        tensors=tensors,
        plain={
            "python": [version, list(words), gauss],
            "numpy": [np.asarray(key).tolist(), int(position), int(has_gauss), float(cached)],
        },
    )


def restore_generators(states: GeneratorStates, device: torch.device) -> None:
    """Puts the global generators where they stood."""
    torch.set_rng_state(states.tensors["cpu"])
    if device.type == "cuda" and "cuda" in states.tensors:
        torch.cuda.set_rng_state(states.tensors["cuda"], device)
    version, words, gauss = states.plain["python"]
    random.setstate((version, tuple(words), gauss))
    key, position, has_gauss, cached = states.plain["numpy"]
    np.random.set_state(("MT19937", np.asarray(key, dtype=np.uint32), position, has_gauss, cached))


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the generators stand afterwards where they stood: a look changes no run."""
    states = generator_states(device)
    try:
        yield
    finally:
        restore_generators(states, device)
