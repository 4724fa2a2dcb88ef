"""Rows of tables, one at a time: Parquet files, saved ``datasets`` folders, names on the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align import registry
from align.errors import DataError
from align.types import Location, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows by their 1-based number, a small batch at a time.

    Raises:
        DataError: the file is no Parquet file, or its footer (which is at its end) is missing.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # With a buffer, a column is streamed; without one, a whole row group of it is read at once.
        file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not a whole Parquet file: {one_line(error)}") from error
    number = 0
    batches = file.iter_batches(batch_size=64, use_threads=False)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (OSError, pyarrow.ArrowException) as error:
            detail = f"this row and all after it are lost: {one_line(error)}"
            yield Row(Location(str(path), number + 1), None, ("damaged_parquet", detail))
            return
        for values in _values(batch):
            number += 1
            location = Location(str(path), number)
            if isinstance(values, str):
                yield Row(location, None, ("not_utf8", values))
            else:
                yield Row(location, values)


def saved_rows(path: Path, split: str) -> Iterator[Row]:
    """Rows of a folder that ``datasets.Dataset.save_to_disk`` wrote, memory-mapped.

    Raises:
        DataError: the folder is not whole, or it has splits and ``split`` is none of them.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever the library raises becomes one line
        raise DataError(f"{path} is not a whole datasets folder: {one_line(error)}") from error
    name = str(path)
    if isinstance(loaded, datasets.DatasetDict):
        name, loaded = f"{path}[{split}]", _chosen_split(loaded, split, str(path))
    return _numbered(name, loaded)


def hub_rows(name: str, split: str) -> Iterator[Row]:
    """Rows of a dataset on the Hub, streamed.

    Raises:
        DataError: no such dataset or split, or the Hub cannot be reached.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(name, streaming=True)
    except Exception as error:  # connection, permission, missing, broken: one line each
        raise DataError(
            f"no file or folder '{name}' here, and as a name on the Hugging Face Hub it cannot be loaded: "
            f"{one_line(error)}. Give dataset.path=<file, folder or Hub name>"
        ) from error
    return _numbered(f"{name}[{split}]", _chosen_split(loaded, split, name))


def one_line(error: Exception) -> str:
    """What a library's exception says, as one line with its type."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _chosen_split(splits: Any, split: str, name: str) -> Any:
    if split not in splits:
        choices = list(splits)
        raise DataError(
            f"{name} has no split '{split}'.{registry.near(split, choices)} It has: {', '.join(choices)}"
        )
    return splits[split]


def _numbered(name: str, rows: Iterable[Any]) -> Iterator[Row]:
    number = 0
    try:
        for number, values in enumerate(rows, 1):
            yield Row(Location(name, number), values)
    except (OSError, ValueError, RuntimeError) as error:
        detail = f"this row and all after it cannot be read: {one_line(error)}"
        yield Row(Location(name, number + 1), None, ("unreadable", detail))


def _values(batch: Any) -> Iterator[dict[str, Any] | str]:
    """A batch's rows; one whose text is not UTF-8 comes as a message in its place."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield f"byte {error.start + 1} of a text is 0x{error.object[error.start]:02x}"
