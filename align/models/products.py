"""Products of float32 matrices on processors where torch's usual library takes its slow path.

torch multiplies float32 matrices by Intel's MKL, which leaves AVX-512 unused on processors of other makers
and reaches half of their speed, or less. oneDNN comes with torch too and does not look at the maker: the same
IEEE float32, summed in another order. Where there is no AVX-512, MKL loses nothing, and oneDNN is the slower
one (PPO on a Zen 3: 1.8 against 2.5 episodes a second). Legend: N rows, K and M widths.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 1 << 22
"""Multiplications from which on the other library is asked: smaller products end before Python is done."""
FINE, COARSE = 32, 256
"""Rows are filled up with zeros to a multiple of the one, from ``COARSE`` rows on of the other: oneDNN
writes code for each shape that it has not seen, and does not give back the megabyte that this takes."""
_CPUINFO = Path("/proc/cpuinfo")


def quicken(model: nn.Module) -> None:
    """Lets the model's linear layers multiply by ``product`` where this processor gains by it.

    Parameters, names and what is saved stay as they are.
    """
    if mkl_is_slow():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear


class Linear(nn.Linear):
    """torch's own layer, by ``product`` for what is float32, large, and lies in the processor's memory."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., M)."""
        if torch.compiler.is_compiling():  # the compiler cannot look into the other library's product
            return F.linear(input, self.weight, self.bias)
        rows = input.numel() // max(1, self.in_features)
        if rows * self.in_features * self.out_features < SMALLEST or not _fits(input, self.weight):
            return F.linear(input, self.weight, self.bias)
        flat_NK = input.reshape(-1, self.in_features)
        if torch.is_grad_enabled():
            out_NM: Tensor = _Product.apply(flat_NK, self.weight, self.bias)  # type: ignore[no-untyped-call]
        else:
            out_NM = product(filled(flat_NK), self.weight, self.bias)[:rows]
        return out_NM.view(*input.shape[:-1], self.out_features)


def product(one_NK: Tensor, other_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """``one @ other.T + bias`` (N, M) by oneDNN; float32 on the CPU, in any strides."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(one_NK, other_MK, bias_M, "none", [], "")
    return found


def filled(rows_NK: Tensor) -> Tensor:
    """The rows, and rows of zeros behind them up to a number that many shapes share."""
    grain = FINE if len(rows_NK) < COARSE else COARSE
    missing = -len(rows_NK) % grain
    return F.pad(rows_NK, (0, 0, 0, missing)) if missing else rows_NK


@functools.cache
def mkl_is_slow() -> bool:
    """Whether Linux tells of an x86 processor with AVX-512 that is not Intel's, and oneDNN is there."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return False
    said = {name.strip(): value.split() for name, _, value in (line.partition(":") for line in lines)}
    return "avx512f" in said.get("flags", ()) and said.get("vendor_id") != ["GenuineIntel"]


def _fits(input: Tensor, weight: Tensor) -> bool:
    if input.device.type != "cpu" or input.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    return not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    """The layer with its gradients, each of them one product."""

    @staticmethod
    def forward(ctx: Any, input_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None) -> Tensor:
        whole_NK = filled(input_NK)
        # as torch's own layer: below an adapter, weights that stay ask for no activations
        ctx.save_for_backward(whole_NK if ctx.needs_input_grad[1] else None, weight_MK)
        ctx.rows = len(input_NK)
        return product(whole_NK, weight_MK, bias_M)[: ctx.rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        whole_NK, weight_MK = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        gradient_NM = filled(gradients[0])
        return (
            product(gradient_NM, weight_MK.t())[: ctx.rows] if of_input else None,
            # rows of zeros add nothing to the sum over rows
            product(gradient_NM.t(), whole_NK.t()) if of_weight else None,
            gradients[0].sum(0) if of_bias else None,
        )
