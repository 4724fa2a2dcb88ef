"""A reply, a critique of it by a principle, and its revision, which is preferred (constitutional AI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from align.settings import PositiveInt

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Draft, Outcome, Truth, Writer
    from align.collect._principles import Principle
    from align.protocols import Collecting
    from align.types import Prompt, Reply, Result

__all__ = ["Critique"]

CRITIQUE_PLACES = ("conversation", "question", "reply", "principle", "critique_request")
REVISION_PLACES = ("conversation", "question", "reply", "principle", "critique", "revision_request")


@dataclass(frozen=True)
class Critique:
    """The model of ``model.path`` or ``server`` mends its own replies (Bai et al. 2022, section 3).

    It answers the prompt (or takes the dataset's reply), criticises that by a principle drawn for the
    prompt, and rewrites it; the rewritten reply is preferred. One that stayed as it was makes no pair
    (``unchanged``).
    """

    needs: ClassVar[tuple[Literal["writer", "reward"], ...]] = ("writer",)

    replies: Literal["sampled", "dataset"] = "sampled"
    """What is revised: a sample, or the dataset's demonstration (of pairs, the chosen reply)."""
    rounds: PositiveInt = 1
    """Critiques and revisions, one after the other, each by another principle while there are any."""
    principles: str | None = None
    """A JSONL file whose lines have a ``name``, a ``principle``, a request for a ``critique`` and one for a
    ``revision``; none takes ``align/collect/prompts/principles.jsonl``."""
    critique_template: str | None = None
    """A text file with ``{reply}``, ``{critique_request}`` ...; none takes ``prompts/critique.txt``."""
    revision_template: str | None = None
    """A text file with ``{reply}``, ``{critique}``, ``{revision_request}`` ...; none takes
    ``prompts/revision.txt``."""

    @property
    def starts_from(self) -> Literal["prompts", "demonstrations"]:
        """Prompts, or demonstrations where those are revised."""
        return "prompts" if self.replies == "sampled" else "demonstrations"

    def open(self, bench: Bench) -> Collecting:
        """Reads principles and templates.

        Raises:
            ConfigError: one of the files cannot be used.
        """
        from align.collect._principles import read_principles
        from align.collect._verdict import PROMPTS
        from align.generation.questions import read_template

        for role in ("principles", "critique_template", "revision_template"):
            if getattr(self, role) is not None:
                bench.note(role, getattr(self, role))
        return _Revising(
            self,
            bench.writer(),
            read_principles(self.principles),
            read_template(
                Path(self.critique_template or PROMPTS / "critique.txt"),
                CRITIQUE_PLACES,
                "collect.critique_template",
            ),
            read_template(
                Path(self.revision_template or PROMPTS / "revision.txt"),
                REVISION_PLACES,
                "collect.revision_template",
            ),
        )

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """``critique/<principle>_pairs``; where the truth is known, ``critique/<principle>_accuracy`` too.

        The latter is how often a revision by that principle is the better reply.
        """
        from align.collect._results import agreement_by

        return agreement_by("critique", found.records, truth, lambda one: str(one.details["principles"][-1]))


@dataclass
class _Draft:
    """One item on its way: what it is now, and what was done to it."""

    prompt: Prompt
    original: Reply
    now: Reply
    drawn: list[Principle]
    critiques: list[str] = field(default_factory=list)
    lost: str | None = None
    """Why nothing came of it."""


class _Revising:
    """Works on a chunk: all replies, then all critiques, then all revisions."""

    def __init__(
        self, settings: Critique, writer: Writer, principles: list[Principle], critique: str, revision: str
    ) -> None:
        self.settings, self.writer, self.principles = settings, writer, principles
        self.critique, self.revision = critique, revision

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        from align.generation.server import derived_seed

        items = self._begun(given, seed)
        for number in range(self.settings.rounds):
            live = [item for item in items if item.lost is None]
            for item, answer in self._said(self.critique, live, number, derived_seed(seed, 2 * number + 1)):
                item.critiques.append(answer.text.strip())
            live = [item for item in live if item.lost is None]
            for item, answer in self._said(self.revision, live, number, derived_seed(seed, 2 * number + 2)):
                item.now = replace(answer.reply, text=answer.text.strip())
        return [(self._outcome(item),) for item in items]

    def _begun(self, given: Sequence[Candidates], seed: int) -> list[_Draft]:
        from align.generation.server import derived_seed

        rng = Random(f"principles {seed}")
        count = min(self.settings.rounds, len(self.principles))
        drawn = [rng.sample(self.principles, count) for _ in given]
        if self.settings.replies == "dataset":
            return [
                _Draft(item.prompt, item.replies[0], item.replies[0], mine)
                for item, mine in zip(given, drawn, strict=True)
            ]
        drafts = self.writer.write([item.prompt for item in given], derived_seed(seed, 0))
        return [
            _Draft(item.prompt, one.reply, one.reply, mine, lost=None if one.ended else "reply_not_ended")
            for item, one, mine in zip(given, drafts, drawn, strict=True)
        ]

    def _said(
        self, template: str, items: Sequence[_Draft], number: int, seed: int
    ) -> list[tuple[_Draft, Draft]]:
        """What the model says to each item's question; one that it does not answer is lost, with a reason."""
        from align.generation.questions import filled, transcript
        from align.types import Message

        asked: list[tuple[_Draft, Prompt]] = []
        for item in items:
            principle = item.drawn[number % len(item.drawn)]
            values = {
                "conversation": transcript(item.prompt),
                "question": item.prompt[-1].content,
                "reply": item.now.text,
                "principle": principle.principle,
                "critique_request": principle.critique,
                "revision_request": principle.revision,
                "critique": item.critiques[-1] if item.critiques else "",
            }
            question = (Message("user", filled(template, values)),)
            if self.writer.fits(question):
                asked.append((item, question))
            else:
                item.lost = "question_too_long"
        answers = self.writer.write([question for _, question in asked], seed)
        found = []
        for (item, _), answer in zip(asked, answers, strict=True):
            if answer.ended and answer.text.strip():
                found.append((item, answer))
            else:
                item.lost = "answer_not_ended" if not answer.ended else "empty_answer"
        return found

    def _outcome(self, item: _Draft) -> Outcome:
        from align.collect._bench import Abstained, judged
        from align.collect._verdict import template_hash
        from align.types import Judge

        if item.lost is not None:
            return Abstained(item.lost)
        names = [item.drawn[number % len(item.drawn)].name for number in range(self.settings.rounds)]
        if item.now.text.split() == item.original.text.split():
            return Abstained("unchanged", ", ".join(names))
        return judged(
            item.prompt,
            item.now,
            item.original,
            Judge("model", self.writer.name),
            "critique",
            template=template_hash(f"{self.critique}\0{self.revision}"),
            details={"principles": names, "critiques": item.critiques},
        )
