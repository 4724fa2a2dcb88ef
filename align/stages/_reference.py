"""The reference's log-probabilities for a stage: from the cache, or computed before the training."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.distributed.device import compute_dtype
from align.distributed.world import barrier, gathered, own_share, world
from align.errors import NonFiniteError
from align.models.policy import Policy
from align.models.save import base_fingerprint
from align.packing.forward import Forward
from align.pairs.prepare import Prepared
from align.report.console import Progress, say
from align.run import Run
from align.settings import TrainingSettings
from align.stages._common import effective, ready
from align.tensors import TokenItem, TokenLogps
from align.training.guards import blame, memory_explained
from align.training.objectives import grouped
from align.training.reference import VERSION, ReferenceLogps
from align.training.sampler import Sampler, total_steps
from align.training.update import Items

Wanted = Mapping[str, tuple[Items[TokenItem], Sequence[int]]]
"""Items to ask about, and which of them; by any name."""


def reference_logps(
    run: Run, policy: Policy, forward: Forward, data: Prepared[Any, Any], training: TrainingSettings
) -> Callable[[Sequence[TokenItem]], TokenLogps]:
    """What the policy, as it is now, says of all pairs that training and its measurements will ask for."""
    drawn = drawn_by(run, forward, data, training).drawn(steps_of(data, training))
    wanted: Wanted = {
        "train": (data.train, drawn),
        "validation": (data.validation, range(len(data.validation))),
        "test": (data.test, range(len(data.test))),
    }
    return asked_of_reference(run, policy, forward, wanted, training, "pairs")


def asked_of_reference(
    run: Run, policy: Policy, forward: Forward, wanted: Wanted, training: TrainingSettings, noun: str
) -> Callable[[Sequence[TokenItem]], TokenLogps]:
    """What the policy, as it is now, says of these items (``pairs`` or ``replies``: the ``noun``).

    Only what the cache lacks is computed, by a frozen model that is dropped afterwards: none is in memory
    while the policy is trained. run.json notes the items, how many were computed, and the seconds it took.
    """
    began = time.monotonic()
    known = ReferenceLogps(run.cache / "reference" / reference_key(policy, training), policy.device, say=say)
    missing = _missing_anywhere(known, wanted)
    count, computed = sum(len(which) for _, which in wanted.values()), sum(map(len, missing.values()))
    own = {name: own_share(which) for name, which in missing.items()}
    if computed:
        with (
            policy.reference() as model,
            memory_explained(training),
            Progress("reference", sum(map(len, own.values()))) as bar,
        ):
            frozen = forward if model is policy.model else ready(policy, training, model)

            def compute(items: Sequence[TokenItem]) -> TokenLogps:
                return frozen.logps(grouped(items))

            size = training.micro_batch_size or training.batch_size
            try:
                for name, which in own.items():
                    known.fill(wanted[name][0], which, compute, size, bar.advance)
                if world().size > 1:
                    barrier()
                    # what the others wrote is read; where their cache is another, it is computed here too
                    for items, asked in wanted.values():
                        known.fill(items, known.missing(items, asked), compute, size, bar.advance)
            except NonFiniteError as error:
                raise NonFiniteError(f"{error}. {blame(model.named_parameters())}") from error
        policy.drop_reference()
    seconds = time.monotonic() - began
    say(f"reference: {count:,} {noun}, {computed:,} of them computed in {seconds:.1f} s, the others cached")
    run.note(reference={noun: count, "computed": computed, "seconds": round(seconds, 3)})
    return known


def _missing_anywhere(known: ReferenceLogps, wanted: Wanted) -> dict[str, list[int]]:
    """What the cache of any rank lacks."""
    own = {name: known.missing(items, which) for name, (items, which) in wanted.items()}
    found = gathered(own)
    return {name: list(dict.fromkeys(index for one in found for index in one[name])) for name in own}


def reference_key(policy: Policy, training: TrainingSettings) -> str:
    """SHA-256 of all that decides a reference's log-probabilities but the item.

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


def drawn_by(run: Run, forward: Forward, data: Prepared[Any, Any], training: TrainingSettings) -> Sampler:
    """What will draw the training items of the run's steps."""
    settings = effective(training, forward)
    lengths, window = data.train.lengths, settings.length_window
    return Sampler(run.seed, settings.batch_size, len(data.train), window, lengths, settings.shuffle)


def steps_of(data: Prepared[Any, Any], training: TrainingSettings) -> int:
    """Optimiser steps of the run."""
    return total_steps(training.max_steps, training.epochs, training.batch_size, len(data.train))
