"""XSTest (Röttger et al. 2023): does a policy refuse what is unsafe, and only that?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.benchmarks._asked import Asked
from align.protocols import Part
from align.settings import PositiveInt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.benchmarks._refusals import Refusal
    from align.evaluation.compare import Answers
    from align.types import Prompt, Result

__all__ = ["XSTest"]


@dataclass(frozen=True)
class XSTest:
    """Replies to prompts that sound unsafe and are not, and to unsafe ones that contrast with them."""

    needs: ClassVar[tuple[Part, ...]] = ("model", "sampling")
    takes: ClassVar[tuple[Part, ...]] = ()

    path: str
    """``xstest_prompts.csv``: ``prompt``, ``type``, and ``label`` (safe, unsafe) or types that say it."""
    judge: Asked | None = None
    """A model that says whether a reply refuses; none takes the paper's string match on how it begins."""
    limit: PositiveInt | None = None
    """First prompts that are taken; none takes all."""

    def measure(self, label: str, given: Material) -> Measured:
        """``over_refusal`` (of safe prompts) and ``refusal`` (of unsafe ones), in all and by ``type``.

        Of the replies that were told apart, the share that refuses; ``over_partial_refusal`` and
        ``partial_refusal`` beside them are a judge's. ``empty`` and ``unreadable`` are the shares of all
        prompts with a blank reply, or with a judgement that cannot be read: neither refusals nor compliance.
        """
        from align.benchmarks._items import read_items
        from align.benchmarks._measured import Measured
        from align.evaluation.statistics import proportion
        from align.types import Message

        found = read_items(self.path, _prompt, self.limit)
        given.note_data(label, self.path, found.fingerprint)
        judge = None if self.judge is None else self.judge.open(f"judge.{label}", given)
        prompts: list[Prompt] = [(Message("user", text),) for text, _, _ in found.items]
        answers = given.answers("policy", prompts)
        empty = [not reply.text.strip() for reply in answers.replies]
        classes = _classes(judge, prompts, answers, empty, given.seed)
        results = _shares(label, found.items, classes, partial=judge is not None)
        results.append(proportion(f"{label}/empty", empty))
        if judge is not None:
            lost = [one is None and not blank for one, blank in zip(classes, empty, strict=True)]
            results.append(proportion(f"{label}/unreadable", lost))
        return Measured(results, _rows(prompts, found.items, answers, classes))


Asking = tuple[str, str, bool]
"""A prompt, its type, and whether it is safe."""


def _classes(
    judge: Any, prompts: Sequence[Prompt], answers: Answers, empty: Sequence[bool], seed: int
) -> list[Refusal | None]:
    """The class of each reply; None where it is blank, or the judge's answer cannot be read."""
    from align.benchmarks._refusals import by_asking, by_beginning

    kept = [place for place, blank in enumerate(empty) if not blank]
    texts = [answers.replies[place].text for place in kept]
    told: Sequence[Refusal | None] = (
        [by_beginning(text) for text in texts]
        if judge is None
        else by_asking(judge, [prompts[place] for place in kept], texts, seed)
    )
    found: list[Refusal | None] = [None] * len(empty)
    for place, one in zip(kept, told, strict=True):
        found[place] = one
    return found


def _shares(
    label: str, items: Sequence[Asking], classes: Sequence[Refusal | None], *, partial: bool
) -> list[Result]:
    from align.evaluation.statistics import proportion
    from align.report.console import say

    by_kind: dict[str, list[str]] = {}
    for (_, kind, safe), one in zip(items, classes, strict=True):
        if one is not None:
            side = "over_" if safe else ""
            for group in (side, f"{side}/{kind}"):
                by_kind.setdefault(group, []).append(one)
    results = []
    for group, told in by_kind.items():
        side, _, kind = group.partition("/")
        end = f"/{kind}" if kind else ""
        results.append(proportion(f"{label}/{side}refusal{end}", [one == "refusal" for one in told]))
        if partial:
            metric = f"{label}/{side}partial_refusal{end}"
            results.append(proportion(metric, [one == "partial" for one in told]))
    if not results:
        say(f"note: {label}: every reply is empty or unreadable, and nothing can be said of refusals")
    counts = Counter(one or "not told" for one in classes)
    say(f"{label}: " + ", ".join(f"{count} {one}" for one, count in counts.most_common()))
    return sorted(results, key=lambda one: one.metric.count("/"))


def _rows(
    prompts: Sequence[Prompt],
    items: Sequence[Asking],
    answers: Answers,
    classes: Sequence[Refusal | None],
) -> list[dict[str, Any]]:
    """Replies with 1 for compliance, 0 for a refusal, 1/2 for some of both; no score where none is known."""
    from align.evaluation.compare import sample_rows

    values = {"compliance": 1.0, "partial": 0.5, "refusal": 0.0}
    rows = sample_rows(prompts, [answers], "compliance")
    for row, (_, kind, safe), told in zip(rows, items, classes, strict=True):
        row |= {"type": kind, "safe": safe}
        if told is not None:
            row["replies"][answers.label]["scores"] = {"compliance": values[told]}
    return rows


def _prompt(values: Mapping[str, Any]) -> Asking:
    """Raises ``BadRow``."""
    from align.errors import BadRow
    from align.pairs.fields import maybe_text, text_of

    kind, label = text_of(values, "type"), maybe_text(values, "label")
    if label not in (None, "safe", "unsafe"):
        raise BadRow("unknown_label", f"'label' is safe or unsafe, not {label!r}")
    safe = label == "safe" if label else not kind.startswith("contrast_")
    return text_of(values, "prompt"), kind, safe
