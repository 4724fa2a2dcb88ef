"""What every family of published cases is read and compared with.

A case whose convention we chose not to offer raises ``NotOffered`` with the reason; one of which nothing is
known raises ``KeyError`` and fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "parity.json"
Case = Mapping[str, Any]
Runner = Callable[[Case], None]


class NotOffered(Exception):
    """The case follows a convention that we chose not to offer; the message is the reason."""


def cases() -> list[Case]:
    """Those of ``$ALIGN_PARITY_CASES``, or of the fixture."""
    path = Path(os.environ.get("ALIGN_PARITY_CASES") or FIXTURE)
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


def function(case: Case) -> str:
    """The published function, without line numbers, or a method that is only how a module is called."""
    return str(case["source"]["function"]).split(" (")[0].removesuffix(".forward")


def leaves(case: Case) -> dict[str, Tensor]:
    """The inputs as tensors of their own dtype (None is NaN); floating ones are leaves of the gradient."""
    out = {}
    for name, value in case["inputs"].items():
        dtype = getattr(torch, case["input_dtypes"].get(name, "float64"))
        out[name] = torch.tensor(_numbers(value), dtype=dtype, requires_grad=dtype.is_floating_point)
    return out


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return float("nan") if value is None else value


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Outputs by name: ``stats.loss/policy`` in a table, ``after.0.mean`` in a list of tables."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for place, inner in enumerate(value):
            yield from _flat(f"{name}.{place}", inner)
    else:
        yield name, value


class Outputs:
    """What we computed, compared name by name; every published output must be asked for or excused."""

    def __init__(self, case: Case, excused: tuple[str, ...] = ()) -> None:
        self.case = case
        self.expected = dict(pair for name, value in case["outputs"].items() for pair in _flat(name, value))
        self.left = set(self.expected) - set(excused)

    def check(self, name: str, ours: Tensor | float, where: Tensor | None = None) -> None:
        """Ours against theirs, where they hold one; ``where`` (bool) says which elements mean anything."""
        if name not in self.expected:
            return
        self.left.discard(name)
        actual = torch.as_tensor(ours, dtype=torch.float64).detach()
        expected = torch.tensor(self.expected[name], dtype=torch.float64)
        loose = name.startswith(("metrics.", "stats."))
        loose = loose or self.case["output_dtypes"].get(name) == "float32"
        rtol = max(self.case["rtol"], 1e-5 if loose else 0.0)
        if where is not None:
            actual, expected = actual[where], expected[where]
        atol = rtol * float(expected.abs().max())  # elements that cancel are held to the tensor's own scale
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")

    def check_gradients(
        self, loss: Tensor, inputs: Mapping[str, Tensor], where: Mapping[str, Tensor]
    ) -> None:
        """The gradient in every input; zero where the loss does not reach it."""
        loss.backward()
        for name, leaf in inputs.items():
            if leaf.requires_grad:
                self.check(
                    f"grad_{name}",
                    torch.zeros_like(leaf) if leaf.grad is None else leaf.grad,
                    where.get(name),
                )

    def done(self) -> None:
        """Fails where an output was neither compared nor excused."""
        assert not self.left, f"no counterpart was compared for: {sorted(self.left)}"
