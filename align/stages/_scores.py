"""Scores of unseen pairs by a reward model, one line a pair; those of several folds together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import DataError
from align.evaluation.accuracy import accuracy
from align.files import written_aside
from align.pairs.store import TokenStore, prompt_json
from align.types import Result

SCORES = "scores.jsonl"


def write_scores(
    path: Path, items: TokenStore[Any, Any], chosen: Sequence[float], rejected: Sequence[float]
) -> None:
    """Writes ``id``, ``prompt`` and both replies' scores of each pair, in order."""
    with written_aside(path) as file:
        for i, (ahead, behind) in enumerate(zip(chosen, rejected, strict=True)):
            text = items.text(i)
            row = {"id": text.id, "prompt": prompt_json(text.prompt), "chosen": ahead, "rejected": behind}
            file.write(f"{json.dumps(row)}\n".encode())


def pooled(path: Path, folds: Mapping[str, Path], label: str) -> list[Result]:
    """Writes the scores of all folds as one file, each row with its fold, and returns their accuracy.

    Each pair was scored by the model that had not seen its prompt. Intervals are clustered by prompt; they do
    not count that the folds' models were trained on data that they share.

    Raises:
        DataError: a pair was tested twice, so that the folds are not those of one split; or none was.
    """
    rows = [row for name, folder in folds.items() for row in _read(folder / SCORES, name)]
    if not rows:
        raise DataError(f"no pair was tested in {len(folds)} folds: the dataset is too small")
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise DataError(f"pair {twice} was tested in two folds of {path.parent}: they are not of one split")
    with written_aside(path) as file:
        for row in rows:
            file.write(f"{json.dumps(row)}\n".encode())
    chosen, rejected = ([row[side] for row in rows] for side in ("chosen", "rejected"))
    return accuracy(chosen, rejected, [row["prompt"] for row in rows], label)


def _read(path: Path, fold: str) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield {"fold": fold, **json.loads(line)}
