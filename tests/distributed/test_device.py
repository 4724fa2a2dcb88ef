"""What ``training.precision`` comes to on devices of each kind, and what the forward pass then does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from align.distributed import device
from align.distributed.device import autocast, compute_dtype

CPU = torch.device("cpu")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has what is said, in a process that has told nothing yet."""
    device._say_slow.cache_clear()

    def make(*, amx: bool = False, avx512_bf16: bool = False, ampere: bool = False) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        # an older CUDA device emulates: it has bfloat16 only where emulation counts
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: ampere or including_emulation
        )

    return make


@pytest.mark.parametrize(
    ("place", "has", "auto"),
    [
        ("cpu", {}, torch.float32),
        ("cpu", {"amx": True}, torch.bfloat16),
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"ampere": True}, torch.float32),
        ("cuda:1", {}, torch.float32),
        ("cuda:1", {"ampere": True}, torch.bfloat16),
        ("cuda:1", {"amx": True}, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_device_multiplies_it(
    machine: Machine, place: str, has: dict[str, bool], auto: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(**has)
    assert compute_dtype("auto", torch.device(place)) == auto
    assert compute_dtype("float32", torch.device(place)) == torch.float32
    assert capsys.readouterr().out == ""


def test_an_emulated_bfloat16_is_done_and_said_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine()
    assert compute_dtype("bfloat16", CPU) == compute_dtype("bfloat16", CPU) == torch.bfloat16
    (note,) = capsys.readouterr().out.splitlines()
    assert note.startswith("note: this cpu")
    assert "training.precision=float32" in note


def test_a_fast_bfloat16_needs_no_note(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine(amx=True)
    assert compute_dtype("bfloat16", CPU) == torch.bfloat16
    assert capsys.readouterr().out == ""


def test_products_are_in_bfloat16_and_weights_stay() -> None:
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    with autocast(CPU, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert layer(x).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
