"""What a training costs: the clock of a step's phases, tokens and operations a second, the device's peak."""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections.abc import Callable, Mapping

import torch

from align.models.products import mkl_is_slow, product
from align.tensors import Work
from align.tracking.metrics import PHASES, ROLLOUT_PHASES

SMALLEST, LARGEST = 512, {"cpu": 2048, "cuda": 8192}
"""Sides of the matrices that the peak is measured with: small ones do not fill a large device, large ones
take too long on a small one."""
SECONDS_A_SIZE = 0.1
"""Processors take about as long to reach their full clock; a peak that is too low flatters ``mfu``."""


class PhaseClock:
    """Adds up seconds by phase (``PHASES``), without gaps: a lap lasts from the end of the one before.

    On CUDA each lap waits for the device, whose work would else be counted where its result is asked for.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: dict[str, float],
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``seconds`` is added to, and belongs to the caller."""
        self._device = device
        self._seconds = seconds
        self._now = now
        self._since = now()

    def start(self) -> None:
        """Begins a step; what passed since the last lap belongs to no phase."""
        self._since = self._now()

    def lap(self, phase: str) -> None:
        """Ends a phase."""
        _wait_for(self._device)
        now = self._now()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now


def throughput(examples: int, work: Work, seconds: Mapping[str, float], peak: float) -> dict[str, float]:
    """Rates of what was done in some steps, for a line of ``metrics.jsonl``.

    All rates are by the time of the phases together: validation, checkpoints and logging between the
    steps do not dilute them. Tokens and operations are left out where nobody counted them.

    Args:
        examples: pairs or demonstrations.
        work: tokens, positions and operations.
        seconds: of each of ``PHASES``, and of ``ROLLOUT_PHASES`` where replies are sampled.
        peak: operations a second that the device reaches, for ``mfu``.
    """
    spent = max(sum(seconds.values()), 1e-9)
    rates = {"examples_per_second": examples / spent}
    if work.slots:
        rates["tokens_per_second"] = work.distinct / spent
        rates["tokens_per_second/total"] = work.total / spent
        rates["fill_rate"] = work.computed / work.slots
    if work.flops:
        rates["flops_per_second"] = work.flops / spent
        rates["mfu"] = work.flops / spent / peak
    shown = [*PHASES, *(phase for phase in ROLLOUT_PHASES if phase in seconds)]
    return rates | {f"time_share/{phase}": seconds.get(phase, 0.0) / spent for phase in shown}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product on this device, the best of some.

    Takes about 0.3 s, once a process; later calls (with the same number of threads) return that number. The
    global generators are left as they are.
    """
    return _measured_peak(device, dtype, torch.get_num_threads())


def memory_peak_mb(device: torch.device) -> float:
    """The most memory in use so far, in MB (10^6 bytes).

    On CUDA: of tensors on the device, since ``new_memory_peak``. Elsewhere: the resident set of this
    process since it began, libraries and earlier stages included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def new_memory_peak(device: torch.device) -> None:
    """Forgets the peak where the device lets it: a training's own starts here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


@functools.cache
def _measured_peak(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    best = 0.0
    # On GPUs products of constants run faster than those of real numbers: the matrices are random.
    generator = torch.Generator(device).manual_seed(0)
    size, largest = SMALLEST, LARGEST.get(device.type, SMALLEST)
    while size <= largest:
        one, other = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
        fastest = _fastest_product(one, other)
        best = max(best, 2 * size**3 / fastest)
        if 8 * fastest > SECONDS_A_SIZE:  # what the next size would take
            break
        size *= 2
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return best


def _fastest_product(one: torch.Tensor, other: torch.Tensor) -> float:
    """Seconds of the fastest run, after one that warms up; by the library that layers multiply by."""
    by_onednn = one.device.type == "cpu" and one.dtype == torch.float32 and mkl_is_slow()
    multiply = product if by_onednn else torch.mm
    multiply(one, other)
    runs: list[float] = []
    while not runs or sum(runs) < SECONDS_A_SIZE:
        _wait_for(one.device)
        began = time.perf_counter()
        multiply(one, other)
        _wait_for(one.device)
        runs.append(time.perf_counter() - began)
    return min(runs)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
