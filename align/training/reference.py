"""What a frozen reference says of replies: computed once, kept on disk by content, shared by all runs.

A sweep over beta or over losses asks the same model about the same replies again and again. Its answers lie
in a folder of their own for everything that decides them but the item (``reference_key``), as Arrow files
named by their own SHA-256: a file is whole or absent, is never changed, and is not read if a byte of it is
wrong. Jobs that run at once at worst compute one twice. An item, a pair or a single reply with its prompt, is
known by a hash of its tokens.
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
from align.tensors import TokenItem, TokenLogps, TokenPair
from align.training.update import Items

VERSION = 1
ROWS = 1024
"""Items of one file: what a killed job loses at most."""
DIGEST = 16
"""Bytes of an item's hash."""
COLUMNS = {1: ("reply",), 2: ("chosen", "rejected")}
"""Names of an item's replies, by how many it has."""

Compute = Callable[[Sequence[TokenItem]], TokenLogps]
"""Items -> log-probabilities of their replies, without gradients: (2B, T) of pairs, chosen rows then rejected
ones; (B, T) of single replies."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Index:
    """Where items lie: sorted hashes (n,), and for each a file and a row in it. 24 bytes an item."""

    keys: NDArray[np.bytes_]
    files: NDArray[np.int32]
    rows: NDArray[np.int32]


class ReferenceLogps:
    """The log-probabilities of items under one reference: ``fill`` for all that will be asked for, then call.

    Values stay on disk, in mapped files.
    """

    def __init__(self, directory: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._device = device
        self._say = say
        self._batches: list[Any] = []
        self._numbers: dict[Path, int] = {}
        self._index = _Index(
            np.empty(0, f"S{DIGEST}"), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)
        )

    def missing(self, items: Items[TokenItem], which: Sequence[int]) -> list[int]:
        """Those indices of ``items`` that nobody has computed, shortest first."""
        keys = np.empty(len(which), f"S{DIGEST}")
        lengths = np.empty(len(which), dtype=np.int64)
        for at, index in enumerate(which):
            item = items[index]
            keys[at] = item_key(item)
            lengths[at] = len(item.prompt_ids) + sum(map(len, item.replies()))
        self._load(keys, sorted(self.directory.glob("*.arrow")))
        unknown = np.flatnonzero(~np.isin(keys, self._index.keys))
        return [which[at] for at in unknown[np.argsort(lengths[unknown], kind="stable")]]

    def fill(
        self,
        items: Items[TokenItem],
        which: Sequence[int],
        compute: Compute,
        batch_size: int,
        advance: Callable[[int], None],
    ) -> None:
        """Computes items, ``batch_size`` at a time, and writes them down. ``advance`` hears of each batch.

        Raises:
            NonFiniteError: the reference gives NaN or infinity; nothing of that batch is kept.
        """
        keys: list[bytes] = []
        found: list[tuple[Floats, ...]] = []
        for start in range(0, len(which), batch_size):
            batch = [items[index] for index in which[start : start + batch_size]]
            found += _by_item(batch, compute(batch))
            keys += map(item_key, batch)
            if len(keys) >= ROWS or start + batch_size >= len(which):
                self._load(np.array(keys, dtype=f"S{DIGEST}"), [self._write(keys, found)])
                keys, found = [], []
            advance(len(batch))

    def __call__(self, items: Sequence[TokenItem]) -> TokenLogps:
        """Log-probabilities in nats on the run's device: (2B, T) of pairs, chosen rows first; else (B, T).

        Raises:
            KeyError: an item was not filled.
        """
        places = [self._place(item) for item in items]
        columns = COLUMNS[len(items[0].replies())]
        rows = [_values(file, column, row) for column in columns for file, row in places]
        lengths = np.array(list(map(len, rows)))
        logps = np.zeros((len(rows), lengths.max()), dtype=np.float32)
        for values, row in zip(logps, rows, strict=True):
            values[: len(row)] = row
        mask = np.arange(lengths.max()) < lengths[:, None]
        return TokenLogps(torch.from_numpy(logps).to(self._device), torch.from_numpy(mask).to(self._device))

    def _place(self, item: TokenItem) -> tuple[Any, int]:
        # through an array: numpy strips the zeros that a lone hash may end in
        index, key = self._index, np.array([item_key(item)], f"S{DIGEST}")[0]
        at = int(np.searchsorted(index.keys, key))
        if at == len(index.keys) or index.keys[at] != key:
            raise KeyError(f"{_kind(item)} {item.id} is not in {self.directory}")
        return self._batches[index.files[at]], int(index.rows[at])

    def _load(self, wanted: NDArray[np.bytes_], paths: Sequence[Path]) -> None:
        """Notes where the wanted items lie, of those that are in these files."""
        found = [self._index]
        for path in paths:
            if path not in self._numbers and not self._open(path):
                continue
            number = self._numbers[path]
            keys = np.array(self._batches[number].column("key").to_pylist(), f"S{DIGEST}")
            rows = np.flatnonzero(np.isin(keys, wanted)).astype(np.int32)
            found.append(_Index(keys[rows], np.full(len(rows), number, dtype=np.int32), rows))
        keys, firsts = np.unique(np.concatenate([one.keys for one in found]), return_index=True)
        files = np.concatenate([one.files for one in found])[firsts]
        rows = np.concatenate([one.rows for one in found])[firsts]
        self._index = _Index(keys, files, rows)

    def _open(self, path: Path) -> bool:
        """Maps a file; deletes it, and says so, where its bytes are not those that it was named after."""
        content = pyarrow.memory_map(str(path)).read_buffer()
        if hashlib.sha256(content).hexdigest() != path.stem:
            self._say(f"note: {path} is damaged; what it held is computed again")
            path.unlink(missing_ok=True)
            return False
        self._numbers[path] = len(self._batches)
        self._batches.append(pyarrow.ipc.open_file(content).get_batch(0))
        return True

    def _write(self, keys: list[bytes], found: list[tuple[Floats, ...]]) -> Path:
        columns = {"key": pyarrow.array(keys, pyarrow.binary(DIGEST))}
        for name, rows in zip(COLUMNS[len(found[0])], zip(*found, strict=True), strict=True):
            columns[name] = _lists(rows)
        batch = pyarrow.RecordBatch.from_pydict(columns)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)
        content = sink.getvalue().to_pybytes()
        path = self.directory / f"{hashlib.sha256(content).hexdigest()}.arrow"
        write_whole(path, content)
        return path


def item_key(item: TokenItem) -> bytes:
    """A hash of an item's tokens: of the prompt and its replies, their bounds included."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    for ids in (item.prompt_ids, *item.replies()):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return digest.digest()


def _by_item(items: Sequence[TokenItem], logps: TokenLogps) -> list[tuple[Floats, ...]]:
    """Rows (2B, T) or (B, T) as one array a reply, without padding, item by item."""
    values, counts = logps.logps_BT.float().cpu().numpy(), logps.mask_BT.sum(-1).tolist()
    rows = [values[row, :count].copy() for row, count in enumerate(counts)]
    for row, one in enumerate(rows):
        if not np.isfinite(one).all():
            wrong, item = one[~np.isfinite(one)][0], items[row % len(items)]
            raise NonFiniteError(f"the reference gives {wrong} to a token of {_kind(item)} {item.id}")
    return [tuple(rows[at :: len(items)]) for at in range(len(items))]


def _kind(item: TokenItem) -> str:
    return "pair" if isinstance(item, TokenPair) else "reply"


def _lists(rows: Sequence[Floats]) -> Any:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pyarrow.ListArray.from_arrays(ends, np.concatenate(rows))


def _values(batch: Any, name: str, row: int) -> Floats:
    found: Floats = batch.column(name)[row].values.to_numpy(zero_copy_only=True)
    return found
