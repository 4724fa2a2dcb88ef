"""The clock of phases, the rates of a line, the measured peak."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
import torch

from align.tensors import Work
from align.tracking.metrics import PHASES
from align.training.state import Counters
from align.training.throughput import (
    PhaseClock,
    memory_peak_mb,
    new_memory_peak,
    peak_flops,
    throughput,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_lap_lasts_from_the_end_of_the_one_before() -> None:
    """Two steps of two micro-batches, 100 s apart (a look, a checkpoint), which belong to no phase.

    Step one starts at 10: data until 11, forward until 13, backward until 17, forward until 18, backward
    until 19, optimiser until 20. Step two starts at 120: data until 120.5, optimiser until 121.
    """
    times = iter([0.0, 10.0, 11.0, 13.0, 17.0, 18.0, 19.0, 20.0, 120.0, 120.5, 121.0])
    seconds: dict[str, float] = {}
    clock = PhaseClock(CPU, seconds, now=lambda: next(times))
    clock.start()
    for phase in ("data", "forward", "backward", "forward", "backward", "optimiser"):
        clock.lap(phase)
    clock.start()
    clock.lap("data")
    clock.lap("optimiser")
    assert seconds == {"data": 1.5, "forward": 3.0, "backward": 5.0, "optimiser": 1.5}
    shares = throughput(4, Work(), seconds, peak=1.0)
    assert shares["examples_per_second"] == pytest.approx(4 / 11)
    assert [shares[f"time_share/{phase}"] for phase in PHASES] == pytest.approx(
        [1.5 / 11, 3 / 11, 5 / 11, 1.5 / 11]
    )


def test_on_cuda_a_lap_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is 2 s behind: what it still has to do belongs to the phase that asked for it."""
    told = [0.0]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: told.append(told[-1] + 2.0))
    seconds: dict[str, float] = {}
    clock = PhaseClock(CUDA, seconds, now=lambda: told[-1])
    clock.start()
    clock.lap("forward")
    clock.lap("backward")
    assert seconds == {"forward": 2.0, "backward": 2.0}


def test_rates_by_hand() -> None:
    """Two padded pairs: prompts of 10 and 4 tokens, replies of 5 and 3, 2 and 2.

    Distinct 10+5+3 + 4+2+2 = 26; given 15+13 + 6+6 = 40, all computed; rows 4 x 15 = 60 positions. In 2 s,
    with 3e9 operations on a device that reaches 6e9 a second.
    """
    work = Work(distinct=26, total=40, computed=40, slots=60, flops=3e9)
    found = throughput(2, work, {"forward": 1.5, "backward": 0.5}, peak=6e9)
    assert found == {
        "examples_per_second": 1.0,
        "tokens_per_second": 13.0,
        "tokens_per_second/total": 20.0,
        "fill_rate": pytest.approx(2 / 3),
        "flops_per_second": 1.5e9,
        "mfu": 0.25,
        "time_share/data": 0.0,
        "time_share/forward": 0.75,
        "time_share/backward": 0.25,
        "time_share/optimiser": 0.0,
    }


def test_the_same_pairs_packed_compute_each_prompt_once() -> None:
    """The 26 distinct tokens in one row of 32 positions: nothing is computed twice, 6 are padding."""
    work = Work(distinct=26, total=40, computed=26, slots=32, flops=3e9)
    assert throughput(2, work, {"forward": 2.0}, peak=6e9)["fill_rate"] == 26 / 32


def test_works_add_up() -> None:
    one, other = Work(1, 2, 3, 4, 5.0), Work(10, 20, 30, 40, 50.0)
    assert one + other == sum((one, other), Work()) == Work(11, 22, 33, 44, 55.0)


def test_half_filled_counters_survive_a_checkpoint() -> None:
    seconds = {"data": 0.1, "forward": 1 / 3}
    counters = Counters(step=3, tokens=26, work=Work(26, 40, 40, 60, 3e9), phases=seconds)
    counters.meter.add("loss", 0.7, 2.0)
    assert Counters.of(json.loads(json.dumps(counters.plain()))) == counters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_one_that_products_reach_and_hardly_exceed(dtype: torch.dtype) -> None:
    """A product timed here and now, on a busy machine: within 4 times of the best of many."""
    peak = peak_flops(CPU, dtype)
    one = torch.ones(512, 512, dtype=dtype)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        one @ one
        rates.append(2 * 512**3 / (time.perf_counter() - began))
    assert peak / 4 < max(rates) < peak * 4


def test_the_peak_is_measured_once_and_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = peak_flops(CPU, torch.float32)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    began = time.perf_counter()
    assert peak_flops(CPU, torch.float32) == first
    assert time.perf_counter() - began < 0.01


def test_memory_is_in_megabytes() -> None:
    """100 MB of ones are resident; a unit of bytes or GB would miss by a thousand."""
    kept = torch.ones(25_000_000)
    assert kept.nbytes == 100e6
    assert 100 < memory_peak_mb(CPU) < 100_000


def test_on_cuda_memory_is_that_of_tensors_since_training_began(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {CUDA: 7_500_000}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peaks.__getitem__)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({device: 0}))
    assert memory_peak_mb(CUDA) == 7.5
    new_memory_peak(CUDA)
    assert memory_peak_mb(CUDA) == 0.0
