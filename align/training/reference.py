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
        self._batches: list[Any] = []
        self._numbers: dict[Path, int] = {}
        self._index = _Index(
            np.empty(0, f"S{DIGEST}"), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)
        )

    def missing(self, items: Items[TokenPair], which: Sequence[int]) -> list[int]:
        """Those indices of ``items`` whose pairs nobody has computed, shortest pair first."""
        keys = np.empty(len(which), f"S{DIGEST}")
        lengths = np.empty(len(which), dtype=np.int64)
        for at, index in enumerate(which):
            item = items[index]
            keys[at] = pair_key(item)
            lengths[at] = len(item.prompt_ids) + len(item.chosen_ids) + len(item.rejected_ids)
        self._load(keys, sorted(self.directory.glob("*.arrow")))
        unknown = np.flatnonzero(~np.isin(keys, self._index.keys))
        return [which[at] for at in unknown[np.argsort(lengths[unknown], kind="stable")]]

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
        return TokenLogps(torch.from_numpy(logps).to(self._device), torch.from_numpy(mask).to(self._device))

    def _place(self, item: TokenPair) -> tuple[Any, int]:
        # through an array: numpy strips the zeros that a lone hash may end in
        index, key = self._index, np.array([pair_key(item)], f"S{DIGEST}")[0]
        at = int(np.searchsorted(index.keys, key))
        if at == len(index.keys) or index.keys[at] != key:
            raise KeyError(f"pair {item.id} is not in {self.directory}")
        return self._batches[index.files[at]], int(index.rows[at])

    def _load(self, wanted: NDArray[np.bytes_], paths: Sequence[Path]) -> None:
        """Notes where the wanted pairs lie, of those that are in these files."""
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
            self._say(f"note: {path} is damaged; its pairs are computed again")
            path.unlink(missing_ok=True)
            return False
        self._numbers[path] = len(self._batches)
        self._batches.append(pyarrow.ipc.open_file(content).get_batch(0))
        return True

    def _write(self, keys: list[bytes], chosen: list[Floats], rejected: list[Floats]) -> Path:
        columns = {
            "key": pyarrow.array(keys, pyarrow.binary(DIGEST)),
            "chosen": _lists(chosen),
            "rejected": _lists(rejected),
        }
        batch = pyarrow.RecordBatch.from_pydict(columns)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)
        content = sink.getvalue().to_pybytes()
        path = self.directory / f"{hashlib.sha256(content).hexdigest()}.arrow"
        write_whole(path, content)
        return path


def pair_key(item: TokenPair) -> bytes:
    """A hash of a pair's tokens: of the prompt and both replies, their bounds included."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    for ids in (item.prompt_ids, item.chosen_ids, item.rejected_ids):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return digest.digest()


def _both_sides(items: Sequence[TokenPair], logps: TokenLogps) -> tuple[list[Floats], list[Floats]]:
    """Rows (2B, T) as one array a reply, without padding."""
    values, counts = logps.logps_BT.float().cpu().numpy(), logps.mask_BT.sum(-1).tolist()
    rows = [values[row, :count].copy() for row, count in enumerate(counts)]
    for row, one in enumerate(rows):
        if not np.isfinite(one).all():
            wrong, pair = one[~np.isfinite(one)][0], items[row % len(items)]
            raise NonFiniteError(f"the reference gives {wrong} to a token of pair {pair.id}")
    return rows[: len(items)], rows[len(items) :]


def _lists(rows: list[Floats]) -> Any:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pyarrow.ListArray.from_arrays(ends, np.concatenate(rows))


def _values(batch: Any, name: str, row: int) -> Floats:
    found: Floats = batch.column(name)[row].values.to_numpy(zero_copy_only=True)
    return found
