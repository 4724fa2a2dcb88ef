"""What a tokenizer loses of a text: encoded and decoded again, and told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from align.models.chat import ChatFormat

KINDS = ("unknown tokens", "characters", "letter case", "spacing")
"""What can be lost, the gravest first."""
_SHOWN = 32
"""Characters of the example, at most."""


class RoundTrip:
    """Looks at texts on their way into a model whose tokenizer is not the one that wrote them.

    Text goes from one tokenizer to the other as text, so nothing has to match but what the second one can
    hold: an uncased vocabulary reads ``Polish`` as ``polish``, a small one reads a rare letter as unknown.
    Nothing is stopped, since a reward may well do without; the first time that something is lost, ``say``
    is told what of how many texts, with an example, and no text is looked at any more.
    """

    def __init__(self, chat: ChatFormat, who: str, say: Callable[[str], None]) -> None:
        self._chat = chat
        self._who = who
        self._say = say
        self._told = False

    def look(self, texts: Iterable[str]) -> None:
        """Compares each distinct text with what its tokens spell."""
        if self._told:
            return
        kinds: Counter[str] = Counter()
        example: tuple[str, str, str] | None = None
        distinct = dict.fromkeys(texts)
        for text in distinct:
            back = self._chat.read_back(text)
            kind = lost(text, back, self._chat.tokenizer.unk_token)
            if kind is None:
                continue
            kinds[kind] += 1
            if example is None or KINDS.index(kind) < KINDS.index(example[0]):
                example = (kind, *_excerpts(text, back))
        if example is None:
            return
        self._told = True
        counts = ", ".join(f"{kind} of {kinds[kind]}" for kind in KINDS if kinds[kind])
        self._say(
            f"note: {self._who} does not see all of the text: of {len(distinct)} texts its tokenizer loses "
            f"{counts}; it reads {example[1]!r} as {example[2]!r} ({example[0]})"
        )


def lost(text: str, back: str, unknown: str | None) -> str | None:
    """The gravest of ``KINDS`` in which a text and its read-back differ; None where they are the same.

    Blanks around a text do not count: chat templates trim them.
    """
    before, after = text.strip(), back.strip()
    if before == after:
        return None
    if unknown and after.count(unknown) > before.count(unknown):
        return "unknown tokens"
    tight, tight_after = "".join(before.split()), "".join(after.split())
    if tight == tight_after:
        return "spacing"
    return "letter case" if tight.casefold() == tight_after.casefold() else "characters"


def _excerpts(text: str, back: str) -> tuple[str, str]:
    """Both around the first character in which they differ."""
    before, after = text.strip(), back.strip()
    pairs = enumerate(zip(before, after, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = max(0, same - _SHOWN // 4)
    return before[start : start + _SHOWN], after[start : start + _SHOWN]
