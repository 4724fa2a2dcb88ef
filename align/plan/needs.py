"""Bytes that a run needs, by what they are for, and what of them one rank holds. Plain arithmetic.

Legend: N ranks. Weights, gradients and moments are float32: 4 bytes a number, 4, and twice 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from align.distributed.engine import BUCKET

REUSED = 1_000_000_000
"""Numbers that DeepSpeed keeps gathered at stage 3 where they are read again soon: its
``stage3_max_live_parameters``, which ``deepspeed.*`` leaves as it is."""
CHOICES = ("none", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")
"""``deepspeed=``"""


@dataclass(frozen=True)
class Needs:
    """What a run needs on one rank that holds everything, in bytes."""

    trained: int
    """Weights that are trained, the critic's among them."""
    frozen: int
    """Weights below an adapter."""
    largest_layer: int
    """Weights of the largest block, or table: what is gathered at once where weights are parted."""
    critic: int
    """Those of the above that are a critic's."""
    reference: int
    """Weights of a second model; 0 where it is the policy without its adapter, or nobody asks one."""
    reference_stays: bool
    """Whether it is in memory during training; else it is asked before, and dropped."""
    reward: int
    """Weights of reward models."""
    kv_cache: int
    """Keys and values of the replies that are written at once."""
    sampling: int
    """What else a step of sampling takes."""
    looking: int
    """What a pass without gradients takes: the reference's, say."""
    looks: bool
    """Whether training stops now and then for such passes over a validation split."""
    passing: Mapping[bool, int]
    """The most that passes forward and back take, with gradients; by whether activations are recomputed."""
    bucket: int
    """Numbers, not bytes, that DeepSpeed sends together (``deepspeed.bucket_size``)."""
    libraries: int
    """What the process takes before a model is there; 0 on devices of their own."""


@dataclass(frozen=True)
class Held:
    """What one rank holds under one choice, in bytes on the device that computes."""

    choice: str
    recomputed: bool
    weights: int
    gradients: int
    optimiser: int
    activations: int
    others: int
    """Reference, reward models, the process itself."""
    kv_cache: int
    training: int
    """The most in the passes of training."""
    apart: int
    """The most outside the passes of training, where all weights are whole: in sampling, in a look at the
    validation split, and before and after the training."""
    total: int
    """The most at once: not all of the above are there at the same time."""
    host: int
    """In the processor's memory beside, where something is offloaded."""


def held(needs: Needs, choice: str, ranks: int, *, recomputed: bool) -> Held:
    """What one of N ranks holds under ``deepspeed=choice``.

    ZeRO (Rajbhandari et al. 2020) parts moments and a copy of the weights that they change from stage 1 on,
    gradients from stage 2 on, weights at stage 3. During a pass, what is gathered there (see ``gathered``)
    counts among the weights.
    """
    stage = 0 if choice == "none" else int(choice[4])
    offload = choice.endswith("offload")
    trained, bucket = needs.trained, min(4 * needs.bucket, needs.trained) if stage else 0
    whole = trained + needs.frozen
    part = -(-trained // ranks)
    parts = 0 if stage < 3 or offload else -(-whole // ranks)
    weights = whole if stage < 3 else parts + gathered(needs, bucket)
    # DeepSpeed's optimiser changes a copy of its part of the weights
    optimiser = 2 * trained if stage == 0 else 2 * part + part
    gradients = _gradients(trained, part, bucket, ranks, stage)
    host = 0
    if offload:
        host, optimiser = optimiser + (-(-whole // ranks) if stage == 3 else 0), 0
    activations = max(0, needs.passing[recomputed] - trained)
    # without ZeRO ranks add their gradients up in copies, when the activations are gone
    sent = min(trained, 4 * BUCKET + needs.largest_layer) if stage == 0 and ranks > 1 else 0
    stays = needs.reward + needs.libraries + (needs.reference if needs.reference_stays else 0)
    training = weights + optimiser + gradients + max(activations, sent) + stays
    # what follows an update finds its gradients still there
    between = parts + whole + optimiser + gradients + stays
    apart = max(
        between + needs.kv_cache + needs.sampling if needs.kv_cache else 0,
        between + needs.looking if needs.looks else 0,
        whole + needs.looking + needs.libraries + (0 if needs.reference_stays else needs.reference),
    )
    return Held(
        choice,
        recomputed,
        weights,
        gradients,
        optimiser,
        activations,
        stays if needs.reference_stays else stays + needs.reference,
        needs.kv_cache,
        training,
        apart,
        max(training, apart),
        host,
    )


def _gradients(trained: int, part: int, bucket: int, ranks: int, stage: int) -> int:
    """Bytes of gradients at their most, with the copies in which DeepSpeed sends them."""
    if stage == 0:
        return trained
    if stage == 1:
        return trained + part + bucket
    if stage == 2:
        return part + 2 * bucket  # and its copy
    return part + 2 * bucket + -(-bucket // ranks)  # and what comes back of it


def gathered(needs: Needs, bucket: int) -> int:
    """Bytes of weights that are whole for a while at stage 3: a layer and what is fetched ahead, and what
    DeepSpeed does not let go of between forward and back."""
    return min(needs.trained + needs.frozen, max(needs.largest_layer + bucket, 4 * REUSED))


def most_that_fits(one: Held, size: int, memory: float) -> int:
    """The largest ``training.micro_batch_size`` that fits, where activations grow with it; 0 where none does.

    ``size`` is the one that was planned with.
    """
    if one.apart > memory:
        return 0
    each = one.activations / size
    return max(0, int((memory - one.training + one.activations) / each)) if each else size
