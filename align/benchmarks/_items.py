"""A benchmark's own file, row by row: every row is read or the run stops with its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from align.errors import BadRow, DataError
from align.pairs.files import read_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Items(Generic[T]):
    """What a file holds, in its order, and a SHA-256 over the rows that were read."""

    items: list[T]
    fingerprint: str


def read_items(
    path: str, make: Callable[[Mapping[str, Any]], T], limit: int | None = None, split: str = "test"
) -> Items[T]:
    """The first ``limit`` rows of a file, a folder or a Hub name (whose ``split``), each as ``make`` has it.

    Raises:
        DataError: no such file, no row in it, or a row that ``make`` refuses.
    """
    items: list[T] = []
    digest = hashlib.sha256()
    for row in islice(read_rows(path, split=split), limit):
        try:
            if row.values is None:
                raise BadRow(*(row.problem or ("unreadable", "")))
            items.append(make(row.values))
        except BadRow as bad:
            raise DataError(f"{row.location}: {bad}") from bad
        text = json.dumps(row.values, sort_keys=True, default=str)
        digest.update(f"{text}\n".encode("utf-8", "surrogatepass"))
    if not items:
        raise DataError(f"{path} holds no rows")
    return Items(items, digest.hexdigest())
