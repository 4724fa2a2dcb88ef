"""``stage=evaluate``: both policies answer the same unseen prompts; rewards, win rates, drift, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from align import registry
from align.distributed.device import device
from align.errors import DataError
from align.evaluation.compare import Answers, compare, sample_rows
from align.evaluation.drift import drift
from align.generation.local import sample_tokens
from align.models.batch import TokenIds
from align.models.forward import reply_logps
from align.models.policy import Policy, evaluating, load_policy
from align.pairs.prompts import read_prompts
from align.protocols import KnownTruth, RewardModel
from align.report.console import Progress, say
from align.report.files import write_samples
from align.run import Run, flat, read_record
from align.settings import AdapterSettings, ModelSettings, SamplingSettings
from align.types import Prompt, Result, SampledReply

if TYPE_CHECKING:
    from align.stages.evaluate import Evaluate


def evaluate_policy(run: Run, stage: Evaluate) -> list[Result]:
    """All numbers of the stage; writes samples.jsonl on the way."""
    policy = load_policy(stage.model, AdapterSettings(), texts=None, seed=run.seed, device=device())
    settings = ModelSettings(path=stage.reference.path, max_length=stage.model.max_length)
    reference = load_policy(settings, AdapterSettings(), texts=None, seed=run.seed, device=device())
    run.note_input("model", stage.model.path)
    run.note_input("reference", stage.reference.path)
    room = stage.model.max_length - stage.sampling.max_new_tokens
    if room < 1:
        raise DataError(
            f"sampling.max_new_tokens={stage.sampling.max_new_tokens} leaves no room for a prompt in "
            f"model.max_length={stage.model.max_length}: lower the one or raise the other"
        )
    unseen = read_prompts(stage.dataset, "test", run.directory, stage.evaluation.prompts)
    run.note_input("data", getattr(stage.dataset.source, "path", None), unseen.fingerprint)
    prompts = unseen.prompts
    say(f"{len(prompts)} unseen prompts, answered by both policies")
    labels = label_of(stage.model.path, "policy"), label_of(stage.reference.path, "reference")
    ours = answers(labels[0], policy, prompts, room, stage.sampling, run.seed)
    theirs = answers(labels[1], reference, prompts, room, stage.sampling, run.seed)

    results: list[Result] = []
    scored: list[tuple[str, Answers, Answers]] = []
    for name, reward in rewards(stage, run):
        scorer = reward.prepare()
        ours, theirs = (
            Answers(one.label, one.replies, scorer.score(prompts, [reply.text for reply in one.replies]))
            for one in (ours, theirs)
        )
        scored.append((name, ours, theirs))
        results += [one for one in compare(prompts, ours, theirs, name) if one not in results]
    if not scored:
        results += compare(prompts, ours, theirs, "proxy")
    results += drift(labels[0], *logps_of(policy, reference, prompts, room, ours.replies))
    name = scored[0][0] if scored else "proxy"
    pair = scored[0][1:] if scored else (ours, theirs)
    rows = sample_rows(prompts, [pair[1], pair[0]], name)
    write_samples(run.directory / "samples.jsonl", rows)
    run.tracker.table("samples", [flat(row) for row in rows])
    return results


def label_of(path: str | None, otherwise: str) -> str:
    """What metrics call a policy: the stage that made it, where its run directory tells."""
    record = read_record(Path(path)) if path else None
    return str(record["stage"]) if record else otherwise


def rewards(stage: Evaluate, run: Run) -> list[tuple[str, RewardModel]]:
    """The dataset's known truth first, where it has one, then the reward that was asked for (``proxy``)."""
    found: dict[str, RewardModel] = {}
    source = stage.dataset.source
    if isinstance(source, KnownTruth):
        found[source.reward] = registry.component("reward", source.reward)()
    if stage.reward is not None:
        truth = registry.component("reward", "gold")
        found["gold" if isinstance(stage.reward, truth) else "proxy"] = stage.reward
        run.note_input("reward", getattr(stage.reward, "path", None))
    return list(found.items())


def answers(
    label: str, policy: Policy, prompts: Sequence[Prompt], room: int, sampling: SamplingSettings, seed: int
) -> Answers:
    """One reply a prompt, none scored yet."""
    with Progress(f"sampling {label}", len(prompts)) as bar:
        replies = sample_tokens(policy, prompt_tokens(policy, prompts, room), sampling, seed, bar.advance)
    return Answers(label, replies)


def prompt_tokens(policy: Policy, prompts: Sequence[Prompt], room: int) -> list[TokenIds]:
    """Prompts as tokens, the oldest cut where a prompt has more than ``room``."""
    return [policy.chat.prompt_ids(prompt)[-room:] for prompt in prompts]


def logps_of(
    policy: Policy,
    reference: Policy,
    prompts: Sequence[Prompt],
    room: int,
    replies: Sequence[SampledReply],
    batch_size: int = 32,
) -> tuple[list[float], list[float]]:
    """Summed log-probabilities (B,) in nats that both policies give to the policy's own replies."""
    found: tuple[list[float], list[float]] = ([], [])
    ids = [np.array(reply.token_ids, dtype=np.int32) for reply in replies]
    for one, values in zip((policy, reference), found, strict=True):
        prompt_ids = prompt_tokens(one, prompts, room)
        with torch.no_grad(), evaluating(one.model):
            for start in range(0, len(ids), batch_size):
                rows = slice(start, start + batch_size)
                logps = reply_logps(one.model, prompt_ids[rows], ids[rows], one.pad_id)
                values.extend(logps.sums_B().double().tolist())
    return found
