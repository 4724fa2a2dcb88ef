"""What both sides of PPO start from: a policy that does not end its replies, a scalar model, the prompts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from align.errors import DataError
from align.models.chat import ChatFormat
from align.pairs.read import examples, report_for
from align.training.sampler import Sampler
from align.types import Prompt
from experiments.speed.prepare import dataset_of, device_name, rows_to_read, write_models
from experiments.speed.work import PPO_PARTS, Job, Work, note_facts

LOUD = 40.0
"""Weight of the first dimension in the last norm: special tokens come out some 20 nats below all others."""


def measure(job: Job) -> dict[str, Any]:
    """Fills ``job.world``: ``ppo_policy``, and for each part ``scalar`` and ``prompts.jsonl``."""
    work, world = job.work, job.world
    limit, prompts = _distinct_prompts(work)
    texts = dataset_of(work, rows_to_read(work, work.rows, exactly=True))  # the tokenizer of the other parts
    lengths = [work.prompt_tokens(part) + work.reply for part in PPO_PARTS]
    policy = write_models(work, texts, {"policy": world / "ppo_policy"}, max(lengths))
    for part, length in zip(PPO_PARTS, lengths, strict=True):
        # a reward model cuts a text to its positions, so that it reads as much of it as the policy
        write_models(work, texts, {"scalar": world / part / "scalar"}, length)
        _write_prompts(world / part / "prompts.jsonl", policy.chat, prompts, work, part)
    never_end(world / "ppo_policy", policy.tokenizer.all_special_ids)
    facts = {"ppo_limit": limit, "weights": policy.model.num_parameters(), "device": device_name()}
    note_facts(world, facts)
    return facts


def never_end(folder: Path, special: list[int]) -> None:
    """Rewrites a policy so that it does not sample special tokens: replies have one length on both sides.

    The first dimension of its hidden states is positive everywhere, and the output embeddings, which are the
    input's, have it positive for words and negative for special tokens. What makes it so is one unit of the
    first layer's MLP, which reads the second dimension, alike in all embeddings. A pass has as many
    operations as before.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    embeddings, layers = model.get_input_embeddings().weight, model.model.layers
    if model.get_output_embeddings().weight is not embeddings:
        raise DataError(f"{folder}: input and output embeddings are not tied")
    with torch.no_grad():
        embeddings[:, :2] = 0.5
        embeddings[special, 0] = -0.5
        for layer in layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[:2] = 0.0
        first = layers[0].mlp
        for projection in (first.gate_proj, first.up_proj):
            projection.weight[0] = 0.0
            projection.weight[0, 1] = 4.0
        first.down_proj.weight[:, 0] = 0.0
        first.down_proj.weight[0, 0] = 0.5
        model.model.norm.weight[0] = LOUD
    model.save_pretrained(folder)


def _distinct_prompts(work: Work) -> tuple[int, list[Prompt]]:
    """Rows of the file until there are as many distinct prompts as episodes, and these.

    Raises:
        DataError: there are fewer.
    """
    everything = dataclasses.replace(dataset_of(work, 1), limit=None)
    report = report_for(everything)
    found: dict[Prompt, None] = {}
    for _, pair, _ in examples(everything, report, "pairs"):
        found.setdefault(pair.prompt)
        if len(found) == work.episodes:
            return report.read, list(found)
    raise DataError(f"{work.data} holds {len(found)} distinct prompts: give --episodes {len(found)} or less")


def _write_prompts(path: Path, chat: ChatFormat, prompts: list[Prompt], work: Work, part: str) -> None:
    """Tokens of the prompts, cut as ours are, in the order in which our iterations draw them."""
    sampler, most = Sampler(work.seed, work.rollout, len(prompts)), work.prompt_tokens(part)
    order = [index for step in range(len(prompts) // work.rollout) for index in sampler.batch(step + 1)]
    rows = [chat.prompt_ids(prompts[index])[-most:].tolist() for index in order]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
