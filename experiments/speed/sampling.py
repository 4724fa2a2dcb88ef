"""Both sides of sampling: our sampler and transformers' ``generate``, on the same prompts, to full length."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from align.distributed.device import device
from align.errors import DataError
from align.generation.sampler import open_sampler
from align.models.policy import Policy, evaluating, load_policy
from align.models.settings import AdapterSettings, ModelSettings
from align.settings import SamplingSettings
from experiments.speed.work import ChildFailed, Job

ROWS, PROMPT, REPLY = 64, 64, 64
"""Prompts, all in one batch, and tokens of a prompt and of a reply."""
DRAWS = 3
"""Batches that are timed, after one that is not."""
TEMPERATURE = 0.7


def measure(job: Job) -> dict[str, Any]:
    """Samples from the policy that ``prepare`` wrote; ``job.what`` is ``ours`` or ``theirs``.

    No token ends a reply, so that both sides write the same number. ``tokens`` are those of the replies,
    ``seconds`` the time of all of them, prompts included.
    """
    settings = ModelSettings(path=str(job.world / "policy"), max_length=job.work.max_length)
    policy = load_policy(settings, AdapterSettings(), texts=None, seed=job.work.seed, device=device())
    if job.work.precision == "bfloat16":
        policy.model.to(torch.bfloat16)
    prompts = _prompts(job)
    draw = _ours(policy, prompts) if job.what == "ours" else _theirs(policy, prompts)
    draw(job.work.seed)
    began = time.perf_counter()
    tokens = sum(draw(job.work.seed + 1 + turn) for turn in range(DRAWS))
    seconds = time.perf_counter() - began
    if tokens != DRAWS * ROWS * REPLY:
        raise ChildFailed(f"{job.what} wrote {tokens} tokens, not {DRAWS * ROWS * REPLY}")
    return {"tokens": tokens, "seconds": seconds}


def _prompts(job: Job) -> list[Any]:
    """The pairs' tokens end to end, cut into pieces of one length: as much work whatever the file."""
    lines = (job.world / "batches.jsonl").read_text(encoding="utf-8").splitlines()
    ids = [token for row in map(json.loads, lines) for token in [*row["prompt_ids"], *row["chosen_ids"]]]
    if len(ids) < PROMPT:
        raise DataError(f"{job.work.data} holds {len(ids)} tokens: no prompt of {PROMPT}")
    return list(np.resize(np.array(ids, dtype=np.int32), (ROWS, PROMPT)))


def _ours(policy: Policy, prompts: list[Any]) -> Callable[[int], int]:
    chat = _EndsNever(policy.chat)
    sampler = open_sampler(dataclasses.replace(policy, chat=chat))
    if sampler.refusal is not None:
        raise ChildFailed(f"the sampler refuses the model: it {sampler.refusal}")
    settings = SamplingSettings(max_new_tokens=REPLY, temperature=TEMPERATURE, batch_size=ROWS)

    def draw(seed: int) -> int:
        return sum(len(one.token_ids) for one in sampler.draw(prompts, settings, seed))

    return draw


def _theirs(policy: Policy, prompts: list[Any]) -> Callable[[int], int]:
    input_ids = torch.from_numpy(np.stack(prompts).astype(np.int64)).to(policy.device)
    # what the checkpoint brings would be taken over where the config says nothing: a token that ends replies
    policy.model.generation_config = GenerationConfig()
    config = GenerationConfig(
        max_new_tokens=REPLY, do_sample=True, temperature=TEMPERATURE, top_k=0, pad_token_id=policy.pad_id
    )

    def draw(seed: int) -> int:
        torch.manual_seed(seed)
        with torch.no_grad(), evaluating(policy.model):
            written = policy.model.generate(
                input_ids=input_ids, attention_mask=torch.ones_like(input_ids), generation_config=config
            )
        return int(written[:, PROMPT:].cpu().numel())

    return draw


class _EndsNever:
    """A chat format without tokens that end a reply."""

    stop_ids: tuple[int, ...] = ()

    def __init__(self, chat: Any) -> None:
        self.decode_reply = chat.decode_reply
