"""Tasks small enough to enumerate: a random policy over few tokens, a fixed reward of each text.

The optimum of E[r] - beta KL(pi || pi_ref) is pi_ref exp(r / beta) / Z (Rafailov et al. 2023, eq. 4), and its
value is beta log Z.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from align.models.chat import ChatFormat
from align.models.templates import RAW
from align.types import Message, Prompt

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPECIAL = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
QUESTION = "a"


@dataclass(frozen=True)
class Task:
    """A policy over ``tokens`` tokens that answers in ``length`` of them at most."""

    name: str
    tokens: int
    length: int
    beta: float
    """Price of a nat of KL, in rewards."""
    iterations: int
    """Of PPO and RLOO."""
    hidden: int = 64


ONE_TOKEN = Task("one token, 40 answers", tokens=40, length=1, beta=0.5, iterations=100)
SHORT = Task("up to 3 tokens, 6 of a kind", tokens=6, length=3, beta=1.0, iterations=300)


def reward(prompt: Prompt, reply: str) -> float:
    """A standard normal number that follows from the text alone."""
    return _drawn(reply)


@functools.cache
def _drawn(reply: str) -> float:
    digest = hashlib.sha256(reply.encode()).digest()
    return float(np.random.default_rng(list(digest)).standard_normal())


def write_policy(task: Task, folder: Path, seed: int = 0) -> None:
    """A Hugging Face folder: a one-layer Llama with random weights, whose answers are far from uniform."""
    letters = LETTERS[: task.tokens - len(SPECIAL)]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL.values(), *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **SPECIAL
    )
    tokenizer.chat_template = RAW.replace("START", "{{ bos_token }}").replace("END", "eos_token")
    config = LlamaConfig(
        vocab_size=task.tokens,
        hidden_size=task.hidden,
        intermediate_size=2 * task.hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for name, matrix in model.named_parameters():
            if matrix.ndim == 2:
                # at the usual 0.02 a token would hardly depend on any before the last
                nn.init.normal_(matrix, std=1.0 if "embed" in name else 1 / math.sqrt(matrix.shape[1]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_prompts(path: Path) -> None:
    """One prompt, in the file that ``dataset=demonstrations`` reads; its completion is not looked at."""
    path.write_text(json.dumps({"prompt": QUESTION, "completion": "b"}) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Every reply that can be sampled, in one order: its reward and a policy's log-probability (nats)."""

    rewards: NDArray[np.float64]
    logps: NDArray[np.float64]


def outcomes(task: Task, folder: Path) -> Outcomes:
    """All replies of a policy: those that end by themselves, and those that are cut at the task's length."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = ChatFormat(tokenizer)
    prompt: Prompt = (Message("user", QUESTION),)
    start = chat.prompt_ids(prompt).tolist()
    stops = set(chat.stop_ids)
    rewards, logps = [], []
    for length in range(1, task.length + 1):
        heads = [
            head
            for head in itertools.product(range(task.tokens), repeat=length - 1)
            if not stops.intersection(head)
        ]
        with torch.no_grad():
            ids = torch.tensor([[*start, *head] for head in heads])
            found = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
        for row, head in enumerate(heads):
            before = sum(float(found[row, len(start) + at - 1, token]) for at, token in enumerate(head))
            last = found[row, -1].tolist()
            for token in range(task.tokens):
                if token in stops or length == task.length:
                    rewards.append(reward(prompt, chat.decode_reply([*head, token])))
                    logps.append(before + last[token])
    return Outcomes(np.array(rewards), np.array(logps))


@dataclass(frozen=True)
class Distance:
    """How far a policy is from the optimum."""

    kl: float
    """KL(policy || optimum), nats."""
    objective: float
    """E[r] - beta KL(policy || reference)."""
    best: float
    """beta log Z, which no policy exceeds."""
    drift: float
    """KL(policy || reference), nats."""
    best_drift: float
    """That of the optimum."""


def optimum(task: Task, reference: Outcomes) -> NDArray[np.float64]:
    """The optimum's log-probabilities (nats) of the same replies: pi_ref exp(r / beta) / Z."""
    tilted = reference.logps + reference.rewards / task.beta
    found: NDArray[np.float64] = tilted - np.logaddexp.reduce(tilted)
    return found


def distance(task: Task, reference: Outcomes, policy: Outcomes) -> Distance:
    """Both over the same replies, exactly: nothing is sampled."""
    best_logps = optimum(task, reference)
    log_z = float(np.logaddexp.reduce(reference.logps + reference.rewards / task.beta))
    weights, best = np.exp(policy.logps), np.exp(best_logps)
    drift = float((weights * (policy.logps - reference.logps)).sum())
    return Distance(
        kl=float((weights * (policy.logps - best_logps)).sum()),
        objective=float((weights * policy.rewards).sum()) - task.beta * drift,
        best=task.beta * log_z,
        drift=drift,
        best_drift=float((best * (best_logps - reference.logps)).sum()),
    )
