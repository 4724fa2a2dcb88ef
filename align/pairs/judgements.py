"""Rows that hold several judgements (a task and its annotators' answers) as one row a judgement."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from align.errors import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from align.types import Row


def one_a_judgement(
    rows: Iterable[Row], judgements: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]
) -> Iterator[Row]:
    """Each row as many times as ``judgements`` finds in its values, each time at the row's own place.

    So every judgement is checked, counted and refused by itself, under the file and line of its row. A row
    for which ``judgements`` raises ``BadRow`` stays one row, with that problem.
    """
    for row in rows:
        if row.values is None:
            yield row
            continue
        try:
            found = list(judgements(row.values))
        except BadRow as bad:
            yield dataclasses.replace(row, values=None, problem=(bad.reason, bad.detail))
            continue
        for values in found:
            yield dataclasses.replace(row, values=values)
