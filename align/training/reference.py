"""What a frozen reference says of pairs: computed once, kept on disk by content, shared by all runs.

A sweep over beta or over losses asks the same model about the same pairs again and again. Its answers lie in
a folder of their own for everything that decides them but the pair (``reference_key``), as Arrow files named
by their own SHA-256: a file is whole or absent, is never changed, and is not read if a byte of it is wrong.
Jobs that run at once at worst compute a pair twice. A pair is known by a hash of its tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray

from align.errors import NonFiniteError
from align.files import write_whole
from align.training.update import Items
from align.types import TokenLogps, TokenPair

VERSION = 1
ROWS = 1024
"""Pairs of one file: what a killed job loses at most."""
DIGEST = 16
"""Bytes of a pair's hash."""

Compute = Callable[[Sequence[TokenPair]], TokenLogps]
"""Pairs -> log-probabilities (2B, T) of their replies, chosen then rejected, without gradients."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Index:
    """Where pairs lie: sorted hashes (n,), and for each a file and a row in it. 24 bytes a pair."""

    keys: NDArray[np.bytes_]
    files: NDArray[np.int32]
    rows: NDArray[np.int32]


class ReferenceLogps:
    """The log-probabilities of pairs under one reference: ``fill`` for all that will be asked for, then call.

    Values stay on disk, in mapped files.
    """

    def __init__(self, directory: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._device = device
        self._say = say
        self._files: dict[Path, Any] = {}
        self._index = _Index(
            np.empty(0, f"S{DIGEST}"), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)
        )

    def missing(self, items: Items[TokenPair], which: Sequence[int]) -> list[int]:
        """Those indices of ``items`` whose pairs nobody has computed, shortest pair first."""
        pairs = [items[index] for index in which]
        keys = np.array([pair_key(pair) for pair in pairs], dtype=f"S{DIGEST}")
        self._load(keys, sorted(self.directory.glob("*.arrow")))
        unknown = np.flatnonzero(~np.isin(keys, self._index.keys))
        return [which[at] for at in sorted(unknown, key=lambda at: _length(pairs[at]))]

    def fill(
        self,
        items: Items[TokenPair],
        which: Sequence[int],
        compute: Compute,
        batch_size: int,
        advance: Callable[[int], None],
    ) -> None:
        """Computes pairs, ``batch_size`` at a time, and writes them down. ``advance`` hears of each batch.

        Raises:
            NonFiniteError: the reference gives NaN or infinity; nothing of that batch is kept.
        """
        keys: list[bytes] = []
        sides: tuple[list[Floats], list[Floats]] = ([], [])
        for start in range(0, len(which), batch_size):
            batch = [items[index] for index in which[start : start + batch_size]]
            for item, chosen, rejected in zip(batch, *_both_sides(batch, compute(batch)), strict=True):
                keys.append(pair_key(item))
                sides[0].append(chosen)
                sides[1].append(rejected)
            if len(keys) >= ROWS or start + batch_size >= len(which):
                self._load(np.array(keys, dtype=f"S{DIGEST}"), [self._write(keys, *sides)])
                keys, sides = [], ([], [])
            advance(len(batch))

    def __call__(self, items: Sequence[TokenPair]) -> TokenLogps:
        """Log-probabilities (2B, T) in nats, chosen rows then rejected ones, on the run's device.

        Raises:
            KeyError: a pair was not filled.
        """
        places = [self._place(item) for item in items]
        rows = [_values(file, side, row) for side in ("chosen", "rejected") for file, row in places]
        lengths = np.array(list(map(len, rows)))
        logps = np.zeros((len(rows), lengths.max()), dtype=np.float32)
        for values, row in zip(logps, rows, strict=True):
            values[: len(row)] = row
        mask = np.arange(lengths.max()) < lengths[:, None]
        return TokenLogps(
            torch.from_numpy(logps).to(self._device), torch.from_numpy(mask).to(self._device)
        )

    def _place(self, item: TokenPair) -> tuple[Any, int]:
        key, index = np.bytes_(pair_key(item)), self._index
        at = int(np.searchsorted(index.keys, key))
        if at == len(index.keys) or index.keys[at] != key:
            raise KeyError(f"pair {item.id} is not in {self.directory}")
        return list(self._files.values())[index.files[at]], int(index.rows[at])

    def _load(self, wanted: NDArray[np.bytes_], paths: Sequence[Path]) -> None:
        """Notes where the wanted pairs lie, of those that are in these files."""
        found = [self._index]
        for path in paths:
            batch = self._opened(path)
            if batch is None:
                continue
            keys = np.array(batch.column("key").to_pylist(), dtype=f"S{DIGEST}")
            rows = np.flatnonzero(np.isin(keys, wanted)).astype(np.int32)
            number = list(self._files).index(path)
            found.append(_Index(keys[rows], np.full(len(rows), number, dtype=np.int32), rows))
        keys, firsts = np.unique(np.concatenate([one.keys for one in found]), return_index=True)
        files = np.concatenate([one.files for one in found])[firsts]
        rows = np.concatenate([one.rows for one in found])[firsts]
        self._index = _Index(keys, files, rows)

    def _lists(rows: list[Floats]) -> Any:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pyarrow.ListArray.from_arrays(ends, np.concatenate(rows))


def _values(batch: Any, name: str, row: int) -> Floats:
    found: Floats = batch.column(name)[row].values.to_numpy(zero_copy_only=True)
    return found
