"""Samples as rows of a table that stands beside those of other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.pairs.check import prompt_id
from align.run import flat
from align.types import Message


def sample_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``samples.jsonl`` with dotted columns, and ``prompt_id`` first.

    Runs with the same data and ``evaluation.prompts`` answer the same unseen prompts in the same order: their
    tables join on that column, whatever each calls its policy.
    """
    return [{"prompt_id": _id(row["prompt"]), **flat(row)} for row in rows]


def _id(prompt: Sequence[Mapping[str, Any]]) -> str:
    return prompt_id(tuple(Message(turn["role"], turn["content"]) for turn in prompt))
