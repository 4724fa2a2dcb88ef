"""Stand-ins for models behind a server, of the embedded world: a judge who knows the gold and errs by chance,
and a critic who mends a reply by the gold's rules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from stand_in_server import Said, completion

from reward_models.gold import COURTESIES, REASONS, RUDE, Gold, gold_reward, words

Answer = Callable[[Mapping[str, Any], int], Said]


def chance(text: str, salt: str = "") -> float:
    """A number in [0, 1) that a text decides, so that a question asked again is answered alike."""
    return int.from_bytes(hashlib.sha256(f"{salt} {text}".encode()).digest()[:6], "big") / 2**48


def part(text: str, name: str) -> str:
    """What stands under ``[name]`` in a question, up to the next such line."""
    found = re.search(rf"^\[{name}\]\n(.*?)\n\n\[", text, re.DOTALL | re.MULTILINE)
    assert found is not None, text
    return found[1]


def asked_in(text: str) -> str:
    """The last turn of the conversation that a question shows."""
    return part(text, "Conversation").rpartition("User: ")[2]


def judging(error: float, bias: float = 0.0, mumbles: float = 0.0) -> Answer:
    """A judge who names the reply that the gold scores lower with chance ``error`` (in each order by itself),
    A whatever it thinks with chance ``bias``, and nothing that can be read with chance ``mumbles``."""

    def answer(body: Mapping[str, Any], _: int) -> Said:
        text = body["messages"][0]["content"]
        if chance(text, "mumbles") < mumbles:
            return completion("Both have their merits.")
        question = asked_in(text)
        a, b = (gold_reward(question, part(text, f"Reply {side}"), Gold()) for side in "AB")
        if a == b:
            return completion("They are alike.\n\nVerdict: tie")
        better = (a > b) != (chance(text, "errs") < error)
        if chance(text, "bias") < bias:
            better = True
        return completion(f"One of them answers.\n\n**Verdict: {'A' if better else 'B'}**")

    return answer


def critic(lazy: float = 0.0) -> Answer:
    """A model that criticises in the principle's own words, and mends a reply by the gold's rules; with
    chance ``lazy`` it gives the reply back as it was."""

    def answer(body: Mapping[str, Any], _: int) -> Said:
        text = body["messages"][0]["content"]
        if "[Reply]" not in text:
            return completion(f"Maybe try again. {text}")
        reply = part(text, "Reply")
        if "[Critique]" not in text:
            return completion(f"It could be better: {part(text, 'Principle')}")
        return completion(reply if chance(text, "lazy") < lazy else mended(asked_in(text), reply))

    return answer


def mended(question: str, reply: str) -> str:
    """The reply without rude or repeated sentences, with a courtesy, a reason and an end where they lack."""
    sentences = [one for one in dict.fromkeys(re.split(r"(?<=[.!?])\s+", reply)) if not rude(one)]
    said = words(" ".join(sentences))
    if not COURTESIES.intersection(said):
        sentences.insert(0, "Glad you asked.")
    if not REASONS.intersection(said):
        sentences.append("This works because it saves time.")
    text = " ".join(sentences)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def rude(sentence: str) -> bool:
    return bool(RUDE.intersection(words(sentence)))
