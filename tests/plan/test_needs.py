"""What one rank holds under each choice: the shares of ZeRO, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from align.distributed.engine import BUCKET
from align.plan.needs import CHOICES, REUSED, Needs, held, most_that_fits

T = 40_000_000_000
"""Bytes of a model of 10^10 numbers that is trained whole: larger than buckets and what stays gathered."""
NEEDS = Needs(
    trained=T,
    frozen=0,
    largest_layer=100_000_000,
    critic=0,
    reference=0,
    reference_stays=False,
    reward=0,
    kv_cache=0,
    sampling=0,
    looking=0,
    looks=False,
    passing={False: T + 800, True: T + 100},
    bucket=50_000_000,
    libraries=0,
)


def test_alone_and_whole() -> None:
    """Weights, gradients, and two moments: 16 bytes a number (Rajbhandari et al. 2020, in float32)."""
    one = held(NEEDS, "none", 1, recomputed=False)
    assert (one.weights, one.gradients, one.optimiser, one.activations) == (T, T, 2 * T, 800)
    assert one.total == 4 * T + 800
    assert held(NEEDS, "none", 1, recomputed=True).total == 4 * T + 100
    eight = held(NEEDS, "none", 8, recomputed=False)
    assert replace(eight, training=one.training, total=one.total) == one, "without ZeRO nothing is shared"


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_what_is_parted_falls_as_one_by_the_ranks(ranks: int) -> None:
    """Moments and the weights that they change: 12 bytes a number, over N, from stage 1 on."""
    for choice in ("zero1", "zero2", "zero3"):
        assert held(NEEDS, choice, ranks, recomputed=False).optimiser == 3 * T // ranks, choice
    buckets = 4 * NEEDS.bucket
    two = held(NEEDS, "zero2", ranks, recomputed=False)
    # a bucket and its copy, beside the rank's part
    assert two.gradients == T // ranks + 2 * buckets
    assert two.weights == T
    three = held(NEEDS, "zero3", ranks, recomputed=False)
    assert three.weights == T // ranks + 4 * REUSED
    assert three.gradients == T // ranks + 2 * buckets + buckets // ranks


def test_what_is_gathered_is_bounded() -> None:
    """By the model, and by what DeepSpeed keeps for its next use."""
    small = replace(NEEDS, trained=T // 100, passing={False: T // 100, True: T // 100})
    assert held(small, "zero3", 4, recomputed=False).weights == T // 400 + T // 100
    wide = replace(NEEDS, largest_layer=T // 2)
    assert held(wide, "zero3", 4, recomputed=False).weights == T // 4 + T // 2 + 4 * NEEDS.bucket


def test_without_zero_ranks_add_up_in_copies() -> None:
    """Which are there when the activations are gone: the larger of both counts."""
    copies = 4 * BUCKET + NEEDS.largest_layer
    assert held(NEEDS, "none", 2, recomputed=False).total == 4 * T + copies
    large = replace(NEEDS, passing={False: T + 2 * copies, True: T})
    assert held(large, "none", 2, recomputed=False).total == 4 * T + 2 * copies


def test_offload_moves_what_is_parted_to_the_host() -> None:
    two = held(NEEDS, "zero2_offload", 4, recomputed=False)
    assert (two.optimiser, two.host) == (0, 3 * T // 4)
    three = held(NEEDS, "zero3_offload", 4, recomputed=False)
    assert three.host == 3 * T // 4 + T // 4
    assert three.weights == 4 * REUSED


def test_a_rank_never_needs_more_by_more_ranks_nor_less_by_a_lower_stage() -> None:
    for choice in CHOICES:
        totals = [held(NEEDS, choice, ranks, recomputed=False).total for ranks in (2, 4, 8, 16)]
        assert totals == sorted(totals, reverse=True), choice
    by_stage = [held(NEEDS, f"zero{stage}", 8, recomputed=False).total for stage in (1, 2, 3)]
    assert by_stage == sorted(by_stage, reverse=True)


def test_the_reference_counts_where_it_is() -> None:
    before = replace(NEEDS, reference=T, looking=5)
    assert held(before, "none", 1, recomputed=False).total == 4 * T + 800, "it is gone when training begins"
    large = replace(before, passing={False: T, True: T}, looking=9 * T)
    assert held(large, "none", 1, recomputed=False).total == 2 * T + 9 * T
    stays = replace(before, reference_stays=True)
    assert held(stays, "none", 1, recomputed=False).total == 5 * T + 800


def test_sampling_counts_where_it_takes_more_than_training() -> None:
    """Gradients of the update before are still there."""
    samples = replace(NEEDS, reference_stays=True, kv_cache=700, sampling=200)
    assert held(samples, "none", 1, recomputed=False).total == 4 * T + 900
    assert held(samples, "none", 1, recomputed=True).total == 4 * T + 900
    assert held(replace(samples, kv_cache=10), "none", 1, recomputed=False).total == 4 * T + 800


def test_what_needs_whole_weights_counts_them_at_stage_3_too() -> None:
    """Beside the rank's parts: sampling, and a look at the validation split."""
    held_between = T // 8 + T + 3 * T // 8 + held(NEEDS, "zero3", 8, recomputed=False).gradients
    samples = replace(NEEDS, reference_stays=True, kv_cache=700, sampling=200)
    assert held(samples, "zero3", 8, recomputed=False).total == held_between + 900
    looks = replace(NEEDS, looks=True, looking=50)
    assert held(looks, "zero3", 8, recomputed=False).total == held_between + 50
    alone = held(looks, "none", 1, recomputed=False)
    assert alone.total == held(NEEDS, "none", 1, recomputed=False).total, "it takes less than training"


def test_a_model_is_whole_before_it_is_parted() -> None:
    many = held(NEEDS, "zero3", 64, recomputed=False)
    assert many.training < many.total == T


def test_no_micro_batch_helps_where_whole_weights_do_not_fit() -> None:
    many = held(NEEDS, "zero3", 64, recomputed=False)
    assert most_that_fits(many, 8, T) >= 8
    assert most_that_fits(many, 8, T - 1) == 0


def test_the_largest_micro_batch_fills_what_is_left() -> None:
    one = held(NEEDS, "none", 1, recomputed=False)
    assert most_that_fits(one, 8, 4 * T + 800) == 8
    assert most_that_fits(one, 8, 4 * T + 799) == 7
    assert most_that_fits(one, 8, 4 * T + 2000) == 20
    assert most_that_fits(one, 8, 4 * T - 1) == 0
