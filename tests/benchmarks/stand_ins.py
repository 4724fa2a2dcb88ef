"""What benchmarks are given in tests: replies and scores that a test makes up, a policy of a few weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from align.collect._bench import Candidates, Draft
from align.evaluation.compare import Answers
from align.models.policy import Policy, load_policy
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.settings import SamplingSettings
from align.tensors import SampledReply
from align.types import Judge, Message, PreferenceRecord, Prompt, Reply, Result

TEXTS = ("The nurse told the patient that she could pay.", "Who is he? They are poor, but not stupid.")
SHAPE = ScratchSettings(hidden_size=16, layers=1, heads=2, mlp_size=16, vocab_size=300)


@functools.cache
def tiny_policy(max_length: int = 256) -> Policy:
    """Random weights, drawn from a seed; its tokenizer has seen ``TEXTS``."""
    model = ModelSettings(scratch=SHAPE, max_length=max_length)
    policy = load_policy(model, AdapterSettings(), texts=lambda: iter(TEXTS), seed=3)
    policy.model.eval()
    return policy


def ask(text: str) -> Prompt:
    return (Message("user", text),)


def sampled(text: str, ended: bool = True) -> SampledReply:
    """A reply with a token a word."""
    return SampledReply(text, tuple(range(len(text.split()))), ended)


@dataclass(frozen=True)
class Scoring:
    """A reward that is a plain function of prompt and reply."""

    by: Callable[[str, str], float]

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        return [self.by(prompt[-1].content, reply) for prompt, reply in zip(prompts, replies, strict=True)]


@dataclass
class Answering:
    """A model that is asked, which answers a question as a test tells it to."""

    say: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        self.asked += [prompt[-1].content for prompt in prompts]
        return [Draft(Reply(self.say(prompt[0].content))) for prompt in prompts]

    def sampling_by(self, settings: SamplingSettings) -> Answering:
        return self

    def fits(self, prompt: Prompt) -> bool:
        return True


@dataclass
class Made:
    """The material of an evaluation, made up."""

    policy: Any = None
    reply: Callable[[str], str] = str
    """What the policy replies to a prompt's last turn."""
    scorer: Any = None
    model: Answering | None = None
    """What is opened where a model is asked."""
    seed: int = 0
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    prompts: list[Prompt] = field(default_factory=list)
    records: list[Candidates] = field(default_factory=list)
    noted: dict[str, str] = field(default_factory=dict)
    run: Any = None

    def answers(self, which: str, prompts: Sequence[Prompt]) -> Answers:
        return Answers("sft", [sampled(self.reply(prompt[-1].content)) for prompt in prompts])

    def dataset_answers(self, which: str) -> Answers:
        return self.answers(which, self.prompts)

    def examples(self, kind: str, split: str, limit: int | None) -> list[Candidates]:
        return self.records[:limit]

    def open_writer(self, role: str, place: Any) -> Answering:
        assert self.model is not None, "nobody is there to be asked"
        return self.model

    def note_data(self, label: str, path: str | None, fingerprint: str) -> None:
        self.noted[label] = fingerprint


def pairs_of(*rows: tuple[str, str, str]) -> list[Candidates]:
    """Prompt, chosen and rejected reply -> records as a dataset gives them."""
    found = []
    for place, (prompt, chosen, rejected) in enumerate(rows):
        two = (Reply(chosen), Reply(rejected))
        record = PreferenceRecord(f"pair {place}", ask(prompt), two, "first", Judge("human", "she"))
        found.append(Candidates(record.prompt, two, record))
    return found


def values(results: Sequence[Result]) -> dict[str, float]:
    """Each metric's value; a name that comes twice is a mistake."""
    found = {one.metric: one.value for one in results}
    assert len(found) == len(results)
    return found


def alone(policy: Policy, sentence: str) -> float:
    """A sentence's log-probability from all logits of its unpadded text."""
    start = policy.tokenizer.bos_token_id or policy.tokenizer.eos_token_id
    ids = torch.tensor([[start, *policy.tokenizer(sentence, add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        logps = policy.model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
    return float(logps[0, :-1].gather(-1, ids[0, 1:, None]).sum())
