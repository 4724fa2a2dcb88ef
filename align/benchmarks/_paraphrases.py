"""Texts in other words: out of a file, or by a model that is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.benchmarks._items import read_items
from align.generation.questions import filled
from align.pairs.fields import text_of
from align.report.files import write_samples
from align.types import Message

if TYPE_CHECKING:
    from align.collect._bench import Writer

_PROMPT = Path(__file__).parent / "prompts" / "paraphrase.txt"


def read_paraphrases(path: str) -> tuple[dict[str, str], str]:
    """Text -> the same in other words (rows with ``text`` and ``paraphrase``), and a SHA-256 over it."""
    found = read_items(path, _row, split="train")
    return dict(found.items), found.fingerprint


def asked_paraphrases(writer: Writer, texts: Iterable[str], seed: int, path: Path) -> dict[str, str]:
    """The same by a model, each distinct text once; kept in ``path``, which ``read_paraphrases`` reads.

    What it leaves blank or does not finish is no paraphrase.
    """
    distinct = list(dict.fromkeys(texts))
    template = _PROMPT.read_text(encoding="utf-8")
    drafts = writer.write([(Message("user", filled(template, {"text": one})),) for one in distinct], seed)
    found = {
        text: draft.text.strip()
        for text, draft in zip(distinct, drafts, strict=True)
        if draft.ended and draft.text.strip()
    }
    write_samples(path, [{"text": text, "paraphrase": other} for text, other in found.items()])
    return found


def _row(values: Mapping[str, Any]) -> tuple[str, str]:
    """Raises ``BadRow``."""
    return text_of(values, "text"), text_of(values, "paraphrase")
