"""What both sides start from: random models, a tokenizer, the batches in their order, the prepared sets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Config

from align.config import build
from align.distributed.device import device
from align.errors import ConfigError, DataError
from align.models.build import seeded
from align.models.policy import Policy, load_policy, save_policy
from align.models.scalar import load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.pairs.prepare import prepare
from align.pairs.read import examples, report_for, texts
from align.pairs.store import TokenStore, store_writer
from align.settings import DatasetSettings, TrainingSettings
from align.tensors import TokenPair
from align.training.sampler import Sampler, permutation
from align.types import PreferencePair
from experiments.speed.work import MOST_TOKENS, Job, Work, note_facts

SETS_MODEL = ScratchSettings(hidden_size=128, layers=2, heads=4, mlp_size=384, vocab_size=MOST_TOKENS)
"""Trained on the prepared sets: small, so that reading the data is no small part of a step."""


def measure(job: Job) -> dict[str, Any]:
    """Fills ``job.world``; ``job.what`` is ``sets`` where the prepared sets are wanted too."""
    work, world = job.work, job.world
    limit = rows_to_read(work, work.rows, exactly=True)
    dataset = dataset_of(work, limit)
    models = {"policy": world / "policy", "scalar": world / "scalar"}
    policy = write_models(work, dataset, models, work.max_length)
    data = prepare(dataset, policy.chat, work.max_length, world / "pairs", "pairs").train
    batches = len(data) // work.batch_size
    if not batches:
        raise DataError(f"{len(data)} pairs of {work.data} fit {work.max_length} tokens: no batch of them")
    order = Sampler(work.seed, work.batch_size, len(data))
    _write_batches(
        world / "batches.jsonl", data, [i for step in range(batches) for i in order.batch(step + 1)]
    )
    if job.what == "sets":
        _write_sets(work, policy, dataset, world)
    facts = {
        "limit": limit,
        "pairs": batches * work.batch_size,
        "weights": policy.model.num_parameters(),
        "device": device_name(),
    }
    note_facts(world, facts)
    return facts


def dataset_of(work: Work, limit: int) -> DatasetSettings:
    """The file's first rows, none held out; a row too long for the model is left out, for both sides."""
    rules = {"too_long": "drop", "test_fraction": 0.0, "validation_fraction": 0.0, "limit": limit}
    return build(DatasetSettings, {"name": work.dataset, "path": work.data, **rules}, "dataset")


def rows_to_read(work: Work, pairs: int, *, exactly: bool) -> int:
    """Rows of the file until so many pairs are found.

    Raises:
        DataError: there are fewer and ``exactly`` so many are wanted.
    """
    everything = dataclasses.replace(dataset_of(work, 1), limit=None)
    report = report_for(everything)
    found = 0
    for found, _ in enumerate(examples(everything, report, "pairs"), start=1):
        if found == pairs:
            break
    if found < pairs and exactly:
        raise DataError(f"{work.data} holds {found} usable pairs: give --rows {found} or less")
    return report.read


def write_models(work: Work, dataset: DatasetSettings, folders: Mapping[str, Path], length: int) -> Policy:
    """Writes ``policy``, ``scalar`` or both, with positions for ``length`` tokens at least.

    Weights are drawn from the seed; returns the policy, whose tokenizer they share.
    """
    shape = work.shape()
    scratch = ScratchSettings(
        hidden_size=shape.hidden_size,
        layers=shape.layers,
        heads=shape.heads,
        mlp_size=shape.mlp_size,
        vocab_size=min(MOST_TOKENS, shape.vocab_size),
    )
    if shape.family == "qwen2":
        scratch = dataclasses.replace(SETS_MODEL, vocab_size=scratch.vocab_size)
    settings = ModelSettings(scratch=scratch, max_length=length)
    policy = load_policy(settings, AdapterSettings(), texts=lambda: texts(dataset), seed=work.seed)
    if shape.family == "qwen2":
        _write_qwen2(work, policy.tokenizer, folders, length)
        if "policy" not in folders:
            return policy
        settings = ModelSettings(path=str(folders["policy"]), max_length=length)
        return load_policy(settings, AdapterSettings(), texts=None, seed=work.seed)
    if "policy" in folders:
        save_policy(policy, folders["policy"])
    if "scalar" in folders:
        scalar = load_scalar(settings, AdapterSettings(), texts=lambda: texts(dataset), seed=work.seed)
        save_scalar(scalar, folders["scalar"])
    return policy


def _write_qwen2(work: Work, tokenizer: Any, folders: Mapping[str, Path], length: int) -> None:
    shape = work.shape()
    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.mlp_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    autos = {"policy": AutoModelForCausalLM, "scalar": AutoModelForSequenceClassification}
    for name, folder in folders.items():
        with seeded(work.seed):
            model = autos[name].from_config(config, dtype=torch.float32)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _write_batches(path: Path, data: TokenStore[TokenPair, PreferencePair], order: list[int]) -> None:
    """The pairs in the order of our batches, as trl reads them, beside the tokens that it should make."""

    def said(reply: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": reply}]

    with path.open("w", encoding="utf-8") as file:
        for index in order:
            text, tokens = data.text(index), data[index]
            row: dict[str, Any] = {
                "prompt": [{"role": turn.role, "content": turn.content} for turn in text.prompt],
                "chosen": said(text.chosen),
                "rejected": said(text.rejected),
                "prompt_ids": tokens.prompt_ids.tolist(),
                "chosen_ids": tokens.chosen_ids.tolist(),
                "rejected_ids": tokens.rejected_ids.tolist(),
            }
            file.write(json.dumps(row) + "\n")


def _write_sets(work: Work, policy: Policy, dataset: DatasetSettings, world: Path) -> None:
    """``sets/small.arrow`` and ``sets/large.arrow``, and the model that is trained on them.

    The rows are laid out so that the same steps draw the same texts from both: what differs is the size of
    the set, and where in it the texts lie.
    """
    small, large = work.sets
    window = TrainingSettings().length_window * work.batch_size
    if work.draws * work.batch_size > small - small % window or large < small:
        raise ConfigError(
            f"--sets {small} {large}, --steps {work.draws}: the steps must fit into whole windows "
            f"of {window} pairs of the first set, and the second must not be smaller"
        )
    some = dataclasses.replace(dataset, limit=rows_to_read(work, small, exactly=False))
    base = prepare(some, policy.chat, work.max_length, world / "base", "pairs").train
    drawn = permutation(work.seed, 0, small) % len(base)
    for name, count in (("small", small), ("large", large)):
        contents = np.empty(count, dtype=np.int64)
        contents[permutation(work.seed, 0, count)] = np.resize(drawn, count)
        with store_writer(world / "sets" / f"{name}.arrow", PreferencePair) as write:
            for number, index in enumerate(contents.tolist()):
                text, tokens, fresh = base.text(index), base[index], f"{name}-{number}"
                write(dataclasses.replace(text, id=fresh), dataclasses.replace(tokens, id=fresh))
    vocab_size = min(SETS_MODEL.vocab_size, work.shape().vocab_size)
    scalar = load_scalar(
        ModelSettings(
            scratch=dataclasses.replace(SETS_MODEL, vocab_size=vocab_size), max_length=work.max_length
        ),
        AdapterSettings(),
        texts=lambda: texts(dataset),
        seed=work.seed,
    )
    save_scalar(scalar, world / "sets" / "model")


def device_name() -> str:
    """What it is measured on, in words."""
    if device().type == "cuda":
        return str(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown CPU"
