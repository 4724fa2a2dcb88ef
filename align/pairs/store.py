"""Prepared examples on disk: one Arrow file a split, tokens beside text, memory-mapped and never copied."""

from __future__ import annotations

import bisect
import itertools
import json
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from align.errors import DataError
from align.files import written_aside
from align.tensors import TokenExample, TokenPair, TokenUnpaired
from align.types import Demonstration, Location, Message, PreferencePair, UnpairedExample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from align.tensors import TokenItem
    from align.types import Example, Prompt

Tokens = TypeVar("Tokens", TokenPair, TokenExample, TokenUnpaired, covariant=True)
Text = TypeVar("Text", PreferencePair, Demonstration, UnpairedExample, covariant=True)

STORE_VERSION = 1
ROWS = 256
"""Examples of one batch of the file: what is held in memory while it is written."""


class TokenStore(Generic[Tokens, Text]):
    """A sequence of examples: ``store[i]`` as tokens, ``store.text(i)`` as text.

    Token arrays (int32) are read-only views of the mapped file. A store can be pickled (it is opened
    anew in a worker process).

    Raises:
        DataError: no such file, or one that this project did not write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _open(path)
        sizes = [self._reader.get_batch(i).num_rows for i in range(self._reader.num_record_batches)]
        self._starts: list[int] = list(itertools.accumulate(sizes, initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Tokens]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Tokens:
        batch, row = self._place(index)
        name, prompt_ids = _value(batch, "id", row), _ids(batch, "prompt_ids", row)
        if "reply_ids" in batch.schema.names:
            reply_ids = _ids(batch, "reply_ids", row)
            if "desirable" in batch.schema.names:
                desirable = _value(batch, "desirable", row)
                return TokenUnpaired(name, prompt_ids, reply_ids, desirable)  # type: ignore[return-value]
            return TokenExample(name, prompt_ids, reply_ids)  # type: ignore[return-value]
        return TokenPair(  # type: ignore[return-value]
            id=name,
            prompt_ids=prompt_ids,
            chosen_ids=_ids(batch, "chosen_ids", row),
            rejected_ids=_ids(batch, "rejected_ids", row),
            margin=_value(batch, "margin", row),
        )

    def text(self, index: int) -> Text:
        """The example that ``self[index]`` holds as tokens (whole: cuts are made in tokens only)."""
        batch, row = self._place(index)
        common: dict[str, Any] = {
            "id": _value(batch, "id", row),
            "prompt": tuple(Message(role, text) for role, text in json.loads(_value(batch, "prompt", row))),
            "location": Location(_value(batch, "path", row), _value(batch, "line", row)),
        }
        if "desirable" in batch.schema.names:
            common |= {"desirable": _value(batch, "desirable", row)}
            return UnpairedExample(reply=_value(batch, "reply", row), **common)  # type: ignore[return-value]
        if "reply" in batch.schema.names:
            return Demonstration(reply=_value(batch, "reply", row), **common)  # type: ignore[return-value]
        return PreferencePair(  # type: ignore[return-value]
            chosen=_value(batch, "chosen", row),
            rejected=_value(batch, "rejected", row),
            margin=_value(batch, "margin", row),
            **common,
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example (n,): its prompt and its longest reply."""
        parts = [np.zeros(0, dtype=np.int64)]
        for i in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(i)
            names = [
                name for name in ("chosen_ids", "rejected_ids", "reply_ids") if name in batch.schema.names
            ]
            replies = [_lengths(batch, name) for name in names]
            parts.append(_lengths(batch, "prompt_ids") + np.maximum.reduce(replies))
        return np.concatenate(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path,))

    def _place(self, index: int) -> tuple[Any, int]:
        """The batch that holds an example, and its row there."""
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"{self.path} holds {len(self)} examples, there is no {index}")
        number = bisect.bisect_right(self._starts, at) - 1
        return self._reader.get_batch(number), at - self._starts[number]


@contextmanager
def store_writer(path: Path, kind: type[Example]) -> Iterator[Callable[[Any, Any], None]]:
    """A function that appends ``(text, tokens)``; the file takes its place when the block ends well."""
    import pyarrow

    schema = _schema(kind)
    rows: list[dict[str, Any]] = []
    with written_aside(path) as file, pyarrow.ipc.new_file(file, schema) as arrow:

        def flush() -> None:
            arrow.write_batch(_batch(rows, schema))
            rows.clear()

        def write(text: Example, tokens: TokenItem) -> None:
            rows.append(_row(text, tokens))
            if len(rows) == ROWS:
                flush()

        yield write
        if rows:
            flush()


def prompt_json(prompt: Prompt) -> str:
    """A prompt as ``[[role, content], ...]``."""
    return json.dumps([[message.role, message.content] for message in prompt], ensure_ascii=False)


def _row(text: Example, tokens: TokenItem) -> dict[str, Any]:
    at = text.location or Location("", 0)
    row = {"id": text.id, "prompt": prompt_json(text.prompt), "path": at.path, "line": at.line}
    if isinstance(text, PreferencePair):
        row |= {"chosen": text.chosen, "rejected": text.rejected, "margin": text.margin}
    else:
        row |= {"reply": text.reply}
    if isinstance(text, UnpairedExample):
        row |= {"desirable": text.desirable}
    return row | {name: ids for name, ids in vars(tokens).items() if name.endswith("_ids")}


def _batch(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow

    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if pyarrow.types.is_list(field.type):
            # token arrays are laid end to end as they are, not taken apart into Python integers
            ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
            columns.append(pyarrow.ListArray.from_arrays(ends, np.concatenate(values).astype(np.int32)))
        else:
            columns.append(pyarrow.array(values, field.type))
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _schema(kind: type[Example]) -> Any:
    import pyarrow

    ids = pyarrow.list_(pyarrow.int32())
    columns = {"id": pyarrow.string(), "prompt": pyarrow.string(), "prompt_ids": ids}
    if kind is PreferencePair:
        columns |= {"chosen": pyarrow.string(), "rejected": pyarrow.string(), "margin": pyarrow.float64()}
        columns |= {"chosen_ids": ids, "rejected_ids": ids}
    else:
        columns |= {"reply": pyarrow.string(), "reply_ids": ids}
    if kind is UnpairedExample:
        columns |= {"desirable": pyarrow.bool_()}
    columns |= {"path": pyarrow.string(), "line": pyarrow.int64()}
    return pyarrow.schema(list(columns.items()), metadata={"align_store": str(STORE_VERSION)})


def _open(path: Path) -> Any:
    import pyarrow

    try:
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        version = (reader.schema.metadata or {}).get(b"align_store", b"").decode()
    except (OSError, pyarrow.ArrowException) as error:
        what = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be opened as prepared data: {what}") from error
    if version != str(STORE_VERSION):
        raise DataError(f"{path} is no prepared data of version {STORE_VERSION} (found {version or 'none'})")
    return reader


def _value(batch: Any, name: str, row: int) -> Any:
    return batch.column(name)[row].as_py()


def _ids(batch: Any, name: str, row: int) -> NDArray[np.int32]:
    ids: NDArray[np.int32] = batch.column(name)[row].values.to_numpy(zero_copy_only=True)
    return ids


def _lengths(batch: Any, name: str) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = batch.column(name).value_lengths().to_numpy(zero_copy_only=False)
    return counts.astype(np.int64)
