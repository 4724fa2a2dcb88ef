"""What a judge of two replies says, and what two orders of showing them come to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from align.collect._bench import Abstained
from align.errors import ConfigError
from align.generation.questions import filled, places_in, read_template, transcript
from align.types import Prompt

PROMPTS = Path(__file__).parent / "prompts"
"""The questions that are asked where the user gives no file."""

PLACES = ("conversation", "question", "reply_a", "reply_b")
"""What stands in braces in a judge's template."""

Letter = Literal["A", "B", "tie"]


@dataclass(frozen=True)
class Verdict:
    """What was read from one answer (None: nothing), and from what: the answer, or the log-odds of A."""

    letter: Letter | None
    source: str | float


@dataclass(frozen=True)
class Settled:
    """What both orders agree on: the reply that the pair names first, its second, or neither."""

    preferred: Literal["first", "second", "tie"]


def judge_template(given: str | None, default: str) -> str:
    """The user's template, or one of the package's.

    Raises:
        ConfigError: it cannot be read, asks for what nobody fills, or does not show both replies.
    """
    path = PROMPTS / default if given is None else Path(given)
    text = read_template(path, PLACES, "collect.template")
    used = places_in(text)
    if not {"reply_a", "reply_b"} <= used or not used & {"conversation", "question"}:
        raise ConfigError(
            f"collect.template={path} has to hold {{reply_a}}, {{reply_b}}, "
            f"and {{conversation}} or {{question}}"
        )
    return text


def template_hash(template: str) -> str:
    """16 hexadecimal digits that change with the template."""
    return hashlib.sha256(template.encode()).hexdigest()[:16]


def question(template: str, prompt: Prompt, shown_first: str, shown_second: str) -> str:
    """One order of showing two replies."""
    values = {
        "conversation": transcript(prompt),
        "question": prompt[-1].content,
        "reply_a": shown_first,
        "reply_b": shown_second,
    }
    return filled(template, values)


def read_verdict(pattern: str, answer: str) -> Letter | None:
    """The last verdict in an answer: what the pattern's one group holds, less its case and its article.

    None where there is none, or another word than a, b and tie.
    """
    found = re.findall(pattern, answer)
    if not found:
        return None
    words: dict[str, Letter] = {"a": "A", "b": "B", "tie": "tie", "a tie": "tie"}
    return words.get(" ".join(found[-1].lower().split()))


def settled(straight: Letter | None, turned: Letter | None) -> Settled | Abstained:
    """The verdict with the first reply shown as A, and the one with it shown as B, as one.

    Neither is trusted alone: which reply stands first sways judges (Zheng et al. 2023). What they do not
    agree on is no tie, but no judgement; and an answer that cannot be read says nothing at all.
    """
    said = f"{straight or 'unreadable'}, {turned or 'unreadable'}"
    if straight is None or turned is None:
        return Abstained("unreadable", said)
    if straight == turned == "tie":
        return Settled("tie")
    if {straight, turned} == {"A", "B"}:
        return Settled("first" if straight == "A" else "second")
    return Abstained("orders_disagree", said)
