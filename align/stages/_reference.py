"""The reference's log-probabilities for a stage: from the cache, or computed before the training."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from align.distributed.device import compute_dtype
from align.models.policy import Policy
from align.models.save import base_fingerprint
from align.packing.forward import Forward
from align.pairs.prepare import Prepared
from align.report.console import Progress, say
from align.run import Run
from align.settings import TrainingSettings
from align.stages._common import effective, ready
from align.training.objectives import grouped
from align.training.reference import VERSION, ReferenceLogps
from align.training.sampler import Sampler, total_steps
from align.types import TokenLogps, TokenPair


def reference_logps(
    run: Run, policy: Policy, forward: Forward, data: Prepared[Any, Any], training: TrainingSettings
) -> Callable[[Sequence[TokenPair]], TokenLogps]:
    """What the policy, as it is now, says of all pairs that training and its measurements will ask for.

    Only what the cache lacks is computed, by a frozen model that is dropped afterwards: none is in memory
    while the policy is trained. run.json notes the pairs, how many were computed, and the seconds it took.
    """
    began = time.monotonic()
    known = ReferenceLogps(run.cache / "reference" / reference_key(policy, training), policy.device, say=say)
    wanted = {
        "train": (data.train, _drawn(run, forward, data, training)),
        "validation": (data.validation, range(len(data.validation))),
        "test": (data.test, range(len(data.test))),
    }
    missing = {split: known.missing(items, which) for split, (items, which) in wanted.items()}
    pairs, computed = sum(len(which) for _, which in wanted.values()), sum(map(len, missing.values()))
    if computed:
        with policy.reference() as model, Progress("reference", computed) as bar:
            frozen = forward if model is policy.model else ready(policy, training, model)

            def compute(items: Sequence[TokenPair]) -> TokenLogps:
                return frozen.logps(grouped(items))

            size = training.micro_batch_size or training.batch_size
            for split, which in missing.items():
                known.fill(wanted[split][0], which, compute, size, bar.advance)
        policy.drop_reference()
    seconds = time.monotonic() - began
    say(f"reference: {pairs:,} pairs, {computed:,} of them computed in {seconds:.1f} s, the others cached")
    run.note(reference={"pairs": pairs, "computed": computed, "seconds": round(seconds, 3)})
    return known


def reference_key(policy: Policy, training: TrainingSettings) -> str:
    """SHA-256 of all that decides a reference's log-probabilities but the pair.

    The same for a policy with an adapter and for one without on the same base.
    """
    parts = {
        "version": VERSION,
        "weights": base_fingerprint(policy.model),
        "tokenizer": policy.chat.fingerprint(),
        "chat_template": policy.chat.template_fingerprint(),
        "precision": str(compute_dtype(training.precision, policy.device)),
        "device": policy.device.type,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _drawn(run: Run, forward: Forward, data: Prepared[Any, Any], training: TrainingSettings) -> Sequence[int]:
    """Indices of the training pairs that the run's steps will draw."""
    settings, count = effective(training, forward), len(data.train)
    sampler = Sampler(run.seed, settings.batch_size, count, settings.length_window, data.train.lengths)
    return sampler.drawn(total_steps(settings.max_steps, settings.epochs, settings.batch_size, count))
