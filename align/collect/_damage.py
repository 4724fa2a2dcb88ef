"""Ways to damage a reply, each a seeded function of text that changes it or says why it cannot.

Whatever comes back differs from the original in its words or their order, not in whitespace alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Kind = Literal["shuffled_words", "shuffled_sentences", "truncated", "repeated", "off_topic", "negated"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_TRIES = 20
"""Shuffles before one gives up; that all of twenty give the original back is no chance (1/2 each)."""

_AUXILIARIES = "am|are|can|could|did|do|does|had|has|have|is|may|might|must|shall|should|was|were|will|would"
_IRREGULAR = {"cannot": "can", "can't": "can", "won't": "will", "shan't": "shall"}
_AUXILIARY = re.compile(
    rf"\b(?:(?P<irregular>{'|'.join(_IRREGULAR)})|(?P<verb>{_AUXILIARIES})(?P<negative>n't|\s+not)?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Undamaged:
    """Why a reply could not be damaged in a way: a short word for the count."""

    reason: str


def damaged(kind: Kind, reply: str, rng: Random, other: str | None) -> str | Undamaged:
    """The reply in a worse version. ``other`` is a reply to another prompt, for ``off_topic``."""
    if kind == "off_topic":
        found: str | None = other
        reason = "no_other_reply"
    else:
        ways: dict[str, tuple[Callable[[str, Random], str | None], str]] = {
            "shuffled_words": (_shuffled_words, "too_short_to_shuffle"),
            "shuffled_sentences": (_shuffled_sentences, "too_few_sentences"),
            "truncated": (_truncated, "too_short_to_truncate"),
            "repeated": (_repeated, "nothing_to_repeat"),
            "negated": (_negated, "nothing_to_negate"),
        }
        way, reason = ways[kind]
        found = way(reply, rng)
    if found is None or found.split() == reply.split():
        return Undamaged(reason)
    return found


def _shuffled_words(text: str, rng: Random) -> str | None:
    return _shuffled(text.split(), rng)


def _shuffled_sentences(text: str, rng: Random) -> str | None:
    return _shuffled(_sentences(text), rng)


def _shuffled(parts: list[str], rng: Random) -> str | None:
    """The parts in another order, joined by spaces; None where all orders are the same."""
    if len(set(parts)) < 2:
        return None
    moved = list(parts)
    for _ in range(_TRIES):
        rng.shuffle(moved)
        if moved != parts:
            return " ".join(moved)
    return None


def _truncated(text: str, rng: Random) -> str | None:
    """Its first words: at least one, at most two thirds of them; whitespace within stays as it was."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    if len(ends) < 2:
        return None
    return text[: ends[rng.randint(1, max(1, len(ends) * 2 // 3)) - 1]]


def _repeated(text: str, rng: Random) -> str | None:
    """One of its sentences two to four times more at its end."""
    sentences = [one for one in _sentences(text) if one]
    if not sentences:
        return None
    return " ".join([text.rstrip(), *[rng.choice(sentences)] * rng.randint(2, 4)])


def _negated(text: str, rng: Random) -> str | None:
    """One of its auxiliary verbs with "not" added, or taken away where it stands already.

    Only auxiliaries: what negates another verb depends on the whole sentence, and a reply without one is
    left alone.
    """
    # of one length, so that places in the one are places in the other
    places = list(_AUXILIARY.finditer(text.replace("’", "'")))
    if not places:
        return None
    place = rng.choice(places)
    if place["irregular"]:
        plain = _IRREGULAR[place["irregular"].lower()]
        turned = plain.capitalize() if place["irregular"][0].isupper() else plain
    elif place["negative"]:
        turned = place["verb"]
    else:
        turned = place["verb"] + ("not" if place["verb"].lower() == "can" else " not")
    return text[: place.start()] + turned + text[place.end() :]


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(text.strip())
