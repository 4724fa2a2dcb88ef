"""Policies answering prompts: replies, their scores, and what two policies think of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from align import registry
from align.distributed.world import in_shares, shared_out
from align.evaluation.compare import Answers
from align.generation.local import sample_tokens
from align.models.batch import TokenIds
from align.models.policy import Policy, evaluating
from align.packing.layout import ReplyGroup
from align.packing.probe import open_forward
from align.protocols import KnownTruth, RewardModel, Scorer, Source
from align.report.console import Progress, say
from align.run import read_record
from align.settings import SamplingSettings
from align.tensors import SampledReply
from align.types import Prompt


def labels_of(policy: str | None, reference: str) -> tuple[str, str]:
    """What metrics call the two: the stage that made it, where a run directory tells.

    Two of one stage (DPO runs of another beta, say) are told apart as that stage and ``reference``.
    """
    ours, theirs = _stage_of(policy) or "policy", _stage_of(reference) or "reference"
    return ours, "reference" if theirs == ours else theirs


def _stage_of(path: str | None) -> str | None:
    record = read_record(Path(path)) if path else None
    return record.get("stage") if record else None


def rewards(source: Source, asked_for: RewardModel | None) -> dict[str, RewardModel]:
    """What scores replies: the source's known truth (``gold``) first, then what was asked for (``proxy``)."""
    found: dict[str, RewardModel] = {}
    if isinstance(source, KnownTruth):
        found[source.reward] = registry.component("reward", source.reward)()
    if asked_for is not None:
        is_gold = isinstance(asked_for, registry.component("reward", "gold"))
        found["gold" if is_gold else "proxy"] = asked_for
    return found


def answers(
    label: str, policy: Policy, prompts: Sequence[Prompt], sampling: SamplingSettings, seed: int
) -> Answers:
    """One reply a prompt, none scored yet; the oldest tokens of a prompt that leaves no room are cut."""
    room = policy.max_length - sampling.max_new_tokens
    with Progress(f"sampling {label}", len(prompts)) as bar:
        ids = prompt_tokens(policy, prompts, room)
        return Answers(label, sample_tokens(policy, ids, sampling, seed, bar.advance))


def scored(answers: Answers, prompts: Sequence[Prompt], scorer: Scorer | None) -> Answers:
    """The same answers with a reward's scores, or as they are where there is none."""
    if scorer is None:
        return answers
    return replace(answers, scores=scores_of(scorer, prompts, [one.text for one in answers.replies]))


def scores_of(scorer: Scorer, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
    """One score a reply; the ranks share them, and each gets all."""
    return in_shares(
        len(replies), lambda own: scorer.score([prompts[i] for i in own], [replies[i] for i in own])
    )


def prompt_tokens(policy: Policy, prompts: Sequence[Prompt], room: int) -> list[TokenIds]:
    """Prompts as tokens, the oldest cut where a prompt has more than ``room``."""
    return [policy.chat.prompt_ids(prompt)[-room:] for prompt in prompts]


def logps_of(
    policy: Policy,
    reference: Policy,
    prompts: Sequence[Prompt],
    replies: Sequence[SampledReply],
    sampling: SamplingSettings,
    batch_size: int = 32,
) -> tuple[list[float], list[float]]:
    """Summed log-probabilities (B,) in nats that both policies give to the first one's own replies.

    Both are taken after the very prompt tokens and at the temperature that the replies were drawn with
    (Huang et al. 2024), so that their difference estimates the drift between the policies as they are
    sampled; at temperature 0 there is no distribution to compare, and they are taken at 1.
    """
    ids = [np.array(reply.token_ids, dtype=np.int32) for reply in replies]
    room, temperature = policy.max_length - sampling.max_new_tokens, sampling.temperature or 1.0
    found = []
    for one in (policy, reference):
        texts = list(zip(prompt_tokens(one, prompts, room), ids, strict=True))
        found.append(text_logps(one, texts, temperature=temperature, batch_size=batch_size))
    return found[0], found[1]


def text_logps(
    policy: Policy,
    texts: Sequence[tuple[TokenIds, TokenIds]],
    *,
    temperature: float = 1.0,
    batch_size: int = 32,
) -> list[float]:
    """Summed log-probability (B,) of each reply's tokens after its prompt's, in nats.

    The ranks share the batches, and each gets all.
    """
    forward = open_forward(policy.model, policy.pad_id, say=say)
    groups = [ReplyGroup(prompt, (reply,)) for prompt, reply in texts]

    def look(start: int) -> list[float]:
        logps = forward.logps(groups[start : start + batch_size], temperature)
        sums: list[float] = logps.sums_B().double().tolist()
        return sums

    with torch.no_grad(), evaluating(policy.model):
        batches = shared_out(range(0, len(groups), batch_size), look)
    return [one for batch in batches for one in batch]
