"""One iteration of online DPO as a step of the training loop: sample, score, pair, update on the pairs.

Guo et al. 2024, "Direct Language Model Alignment from Online AI Feedback": the replies are the policy's own,
and a reward labels them. Legend: B prompts, R replies to each, N = R * B replies, T tokens; reply i of prompt
b is row i * B + b.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.distributed.world import of_first, shared_out
from align.evaluation.compare import distinct
from align.models.policy import evaluating
from align.packing.forward import Forward
from align.packing.layout import ReplyGroup
from align.ppo.asking import Asking
from align.ppo.rollout import by_reply, grouped_replies, in_parts
from align.ppo.served import server_distance
from align.ppo.settings import OnlineSettings
from align.ppo.update import summed
from align.protocols import PairLoss
from align.settings import TrainingSettings
from align.tensors import SampledReply, TokenLogps, TokenPair, Work
from align.training.course import Course
from align.training.objectives import Preference, grouped
from align.training.sampler import Sampler, total_steps
from align.training.state import Trained
from align.training.update import Taken, cut, update

Lap = Callable[[str], None]
Metrics = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class OnlinePairs(Course):
    """``training.batch_size`` prompts a step: their replies become fresh pairs, for one step or several.

    Nothing is kept from step to step.
    """

    asking: Asking
    forward: Forward
    loss: PairLoss
    reference: Callable[[], AbstractContextManager[Forward]] | None
    """Opens the reference for a pass over the fresh pairs; None for losses that need none."""
    online: OnlineSettings
    training: TrainingSettings

    @property
    def total(self) -> int:
        """``training.max_steps`` iterations, or what ``training.epochs`` over the prompts take."""
        settings = self.training
        return total_steps(settings.max_steps, settings.epochs, settings.batch_size, self.items)

    @property
    def items(self) -> int:
        """Prompts of the training split."""
        return len(self.asking.questions)

    def take(self, step: int, trained: Trained, lap: Lap) -> Taken:
        """One iteration."""
        training = self.training
        drawn = Sampler(self.asking.seed, training.batch_size, self.items, shuffle=training.shuffle).batch(
            step
        )
        lap("data")
        with trained.engine.whole():
            sampled = self.asking.sample(drawn, step)
            replies = sampled.replies
            lap("sample")
            scores_N = self.asking.score(drawn, replies)
        lap("score")
        groups = grouped_replies(
            [self.asking.questions.ids[one] for one in drawn], replies, self.online.replies
        )
        pairs = fresh_pairs(groups, scores_N, [f"prompt {one}" for one in drawn], self.online)
        looks = {**_looks(replies, scores_N, len(drawn)), "rollout/pairs": (float(len(pairs)), len(drawn))}
        if self.asking.served is not None:
            with trained.engine.whole():
                looks |= {**sampled.looks, **self._server_distance(groups, replies)}
        if not pairs:  # all replies to each prompt are worth the same: there is nothing to learn from
            return Taken(looks, None)
        parts = parted(pairs, self.online.minibatches)
        with trained.engine.whole():
            said = [self._ask_reference(part) for part in parts]
        lap("judge")
        taken = [
            self._update(step, trained, part, asked, lap)
            for _ in range(self.online.epochs)
            for part, asked in zip(parts, said, strict=True)
        ]
        own = self.asking.served is None or looks.get("server/age", (1.0, 1.0))[0] == 0
        if said[0] and self.online.replies == 2 and own:
            looks["rollout/kl"] = _drift(taken[0].metrics, said[0])  # of the policy that wrote the replies
        works = [one.work for one in taken if one.work is not None]
        return Taken(
            {**summed([one.metrics for one in taken]), **looks}, sum(works, Work()) if works else None
        )

    def _update(
        self,
        step: int,
        trained: Trained,
        pairs: Sequence[TokenPair],
        said: Mapping[str, TokenLogps],
        lap: Lap,
    ) -> Taken:
        """One optimiser step on a minibatch, cut into micro-batches as it was cut for the reference."""
        return update(
            Preference(
                self.forward,
                self.loss,
                (lambda items: said[items[0].id]) if said else None,
                self.asking.sampling.temperature,
            ),
            pairs,
            parameters=trained.parameters,
            engine=trained.engine,
            micro_batch_size=self.training.micro_batch_size,
            max_grad_norm=self.training.max_grad_norm,
            step=step,
            ids=[pair.id for pair in pairs],
            lap=lap,
        )

    def state(self) -> Mapping[str, Any]:
        """Nothing: prompts and replies follow from the seed and the step."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def _server_distance(self, groups: Sequence[ReplyGroup], replies: Sequence[SampledReply]) -> Metrics:
        """How far the policy is from the server, by a pass of its own over all replies."""
        device, chunks = self.asking.policy.device, cut(len(groups), self.training.micro_batch_size)
        like = by_reply([np.zeros(len(one.token_ids), np.float32) for one in replies], device)
        with torch.no_grad(), evaluating(self.asking.policy.model):
            said = shared_out(
                chunks,
                lambda chunk: self.forward.logps(groups[chunk], self.asking.sampling.temperature).logps_BT,
            )
        places = range(len(groups))
        rows = [
            [order * len(groups) + b for order in range(self.online.replies) for b in places[chunk]]
            for chunk in chunks
        ]
        parts = list(zip(rows, said, strict=True))
        return server_distance(TokenLogps(in_parts(parts, like), like.mask_BT), replies)

    def _ask_reference(self, pairs: Sequence[TokenPair]) -> dict[str, TokenLogps]:
        """What the reference says of each micro-batch of a minibatch, by the id of its first pair.

        Nothing for a loss that needs no reference.
        """
        if self.reference is None:
            return {}
        chunks = cut(len(pairs), self.training.micro_batch_size)
        with self.reference() as forward, torch.no_grad():
            # every rank's, for what they say together
            said = shared_out(
                chunks, lambda chunk: forward.logps(grouped(pairs[chunk]), self.asking.sampling.temperature)
            )
        return {pairs[chunk.start].id: one for chunk, one in zip(chunks, said, strict=True)}


def fresh_pairs(
    groups: Sequence[ReplyGroup], scores_N: Tensor, names: Sequence[str], online: OnlineSettings
) -> list[TokenPair]:
    """The best reply to each prompt against its worst, the first of equals; a prompt may be drawn twice.

    No pair of a prompt whose replies all score alike, or whose best and worst have the same tokens. With
    ``labels=bradley_terry`` the best is called so with probability sigmoid(difference / temperature) only,
    drawn from the global generator.
    """
    scores_RB = scores_N.view(online.replies, len(groups)).numpy()
    best_B, worst_B = scores_RB.argmax(0).tolist(), scores_RB.argmin(0).tolist()
    margins_B = scores_RB.max(0) - scores_RB.min(0)
    honest_B = np.ones(len(groups), dtype=np.bool_)
    if online.labels == "bradley_terry":
        # drawn for every prompt, so that what is drawn later does not depend on ties
        draws_B = of_first(torch.rand(len(groups), dtype=torch.float64))
        honest_B = (draws_B < (torch.from_numpy(margins_B) / online.label_temperature).sigmoid()).numpy()
    pairs: list[TokenPair] = []
    for b, (group, name) in enumerate(zip(groups, names, strict=True)):
        chosen, rejected = group.replies[best_B[b]], group.replies[worst_B[b]]
        if margins_B[b] == 0 or np.array_equal(chosen, rejected):
            continue
        if not honest_B[b]:
            chosen, rejected = rejected, chosen
        pairs.append(TokenPair(f"{name} ({b})", group.prompt_ids, chosen, rejected))
    return pairs


def parted(pairs: Sequence[TokenPair], parts: int) -> list[list[TokenPair]]:
    """Pairs in so many minibatches whose sizes differ by one at most; fewer where there are fewer pairs.

    They are the same in every pass, so that the reference is asked once.
    """
    parts = min(parts, len(pairs))
    ends = [round(len(pairs) * part / parts) for part in range(parts + 1)]
    return [list(pairs[start:end]) for start, end in itertools.pairwise(ends)]


def _drift(metrics: Mapping[str, tuple[float, float]], said: Mapping[str, TokenLogps]) -> tuple[float, float]:
    """KL from the reference in nats a reply, by the policy's replies: of two a prompt, all stand in pairs.

    But for those of prompts whose two were worth the same.
    """
    (chosen, count), (rejected, _) = metrics["logps/chosen"], metrics["logps/rejected"]
    reference = sum(float(logps.sums_B().double().sum()) for logps in said.values())
    return chosen + rejected - reference, 2 * count


def _looks(replies: Sequence[SampledReply], scores_N: Tensor, prompts: int) -> Metrics:
    """What a line of metrics says of the replies: sums over them, and their number."""
    count, tokens = float(len(replies)), float(sum(len(reply.token_ids) for reply in replies))
    scores_RB = scores_N.view(-1, prompts)
    looks: Metrics = {
        "rollout/score": (float(scores_N.sum()), count),
        "rollout/score_std": (float(scores_N.std(correction=0)), 1.0),
        "rollout/length": (tokens, count),
        "rollout/ended": (float(sum(reply.ended for reply in replies)), count),
        "rollout/distinct_2": (distinct("", [one.token_ids for one in replies], 2).value, 1.0),
        "rollout/equal_groups": (float((scores_RB.std(0, correction=0) == 0).sum()), float(prompts)),
    }
    logps = [reply.logps for reply in replies if reply.logps is not None]
    if len(logps) == len(replies):
        looks["rollout/entropy"] = (-float(sum(one.sum() for one in logps)), tokens)
    return looks
