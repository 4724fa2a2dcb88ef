"""What ``stage=kto`` does beside training: its reference's answers, and its loss over unseen replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from align.distributed.world import shared_out
from align.evaluation.statistics import mean, proportion
from align.models.policy import Policy, evaluating
from align.packing.forward import Forward
from align.pairs.prepare import Prepared
from align.pairs.store import TokenStore
from align.protocols import UnpairedLoss
from align.report.console import say
from align.run import Run
from align.settings import TrainingSettings
from align.stages._reference import Wanted, asked_of_reference, drawn_by, steps_of
from align.tensors import TokenItem, TokenLogps, UnpairedLogps
from align.training.sampler import permutation
from align.training.unpaired import Mismatched, Unpaired
from align.training.update import cut
from align.types import Result


def unpaired_reference(
    run: Run,
    policy: Policy,
    forward: Forward,
    data: Prepared[Any, Any],
    training: TrainingSettings,
    loss: UnpairedLoss,
) -> Callable[[Sequence[TokenItem]], TokenLogps]:
    """What the policy, as it is now, says of all replies that training and its measurements ask for."""
    sampler, steps = drawn_by(run, forward, data, training), steps_of(data, training)
    wanted: dict[str, Any] = {"train": (data.train, sampler.drawn(steps))}
    for split, items in (("validation", data.validation), ("test", data.test)):
        wanted[split] = (items, range(len(items)))
        if loss.needs_mismatched and len(items):
            wanted[f"mismatched {split}"] = (_across(items, policy.max_length), range(len(items)))
    if loss.needs_mismatched:
        order = [index for step in range(1, steps + 1) for index in sampler.batch(step)]
        first = cut(training.batch_size, training.micro_batch_size)[0]
        others = Mismatched(data.train, order, first.stop, policy.max_length, training.batch_size)
        wanted["mismatched train"] = (others, range(len(others)))
    typed: Wanted = wanted
    return asked_of_reference(run, policy, forward, typed, training, "replies")


def held_out_loss(
    model: torch.nn.Module, objective: Unpaired, items: TokenStore[Any, Any], training: TrainingSettings
) -> list[Result]:
    """The loss over a whole split, whose drift is estimated over all of it, and what it is made of.

    ``kto/loss``; ``kto/accuracy``, the share of replies whose log-ratio lies on its label's side of the
    baseline, ties half; ``kto/rewards_chosen`` and ``kto/rewards_rejected``; ``kto/baseline``, in nats.
    """
    others = _across(items, objective.max_length) if objective.loss.needs_mismatched else None
    size = training.micro_batch_size or training.batch_size

    def look(start: int) -> UnpairedLogps:
        which = range(start, min(start + size, len(items)))
        mismatched = [others[i] for i in which] if others else []
        return objective.logps([items[i] for i in which], mismatched)

    with torch.no_grad(), evaluating(model):
        whole = _joined(shared_out(range(0, len(items), size), look))
    values = objective.loss(whole)
    prompts = [items.text(i).prompt for i in range(len(items))]
    ahead = (whole.policy - whole.reference - values.baselines).sign() * (2.0 * whole.desirable - 1)
    results = [
        mean("kto/loss", values.losses.double().tolist(), prompts),
        proportion("kto/accuracy", ((ahead + 1) / 2).tolist(), prompts),
    ]
    for name, which_B in (("chosen", whole.desirable), ("rejected", ~whole.desirable)):
        rewards = values.rewards[which_B].double().tolist()
        asked = [prompt for prompt, is_one in zip(prompts, which_B.tolist(), strict=True) if is_one]
        if rewards:
            results.append(mean(f"kto/rewards_{name}", rewards, asked))
    baseline = float(values.baselines.mean())
    return [*results, Result("kto/baseline", baseline, len(set(prompts)), None, None, "exact")]


def warn_of_micro_batches(loss: UnpairedLoss, training: TrainingSettings) -> None:
    """The drift is estimated a micro-batch at a time, so that how a batch is cut is part of the objective."""
    chunks = cut(training.batch_size, training.micro_batch_size)
    if loss.needs_mismatched and len(chunks) > 1:
        size = chunks[0].stop
        say(f"note: the drift (kl) is estimated from {size} replies, those of a micro-batch")


def _across(items: TokenStore[Any, Any], max_length: int) -> Mismatched:
    """Each prompt of a split with another one's reply. Shuffled: a pair's two replies lie side by side."""
    return Mismatched(items, permutation(0, 0, len(items)).tolist(), len(items), max_length)


def _joined(parts: Sequence[UnpairedLogps]) -> UnpairedLogps:
    fields = [
        (p.policy, p.reference, p.desirable, p.policy_mismatched, p.reference_mismatched) for p in parts
    ]
    policy, reference, desirable, *others = (
        None if column[0] is None else torch.cat([one for one in column if one is not None])
        for column in zip(*fields, strict=True)
    )
    assert policy is not None
    assert reference is not None
    assert desirable is not None
    return UnpairedLogps(policy, reference, desirable, *others)
