"""``path`` -> rows: which kind of file, folder or Hub name it is, and which of its splits are read."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from align import registry
from align.errors import DataError
from align.files import sha256_of
from align.pairs.candidates import CANDIDATES
from align.pairs.candidates import KIND as OF_CANDIDATES
from align.pairs.records import KIND, MANIFEST, RECORDS, verify
from align.pairs.tables import hub_rows, parquet_rows, saved_rows
from align.pairs.textfiles import csv_rows, json_rows, jsonl_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from align.types import Row

Part = Literal["records", "candidates", "saved", "file"]
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""What a file's name ends with, perhaps followed by ``.gz`` (not Parquet, which is compressed inside)."""

_OURS: dict[Part, tuple[str, str]] = {
    "records": (RECORDS, KIND),
    "candidates": (CANDIDATES, OF_CANDIDATES),
}
"""What this project writes into a folder, or one of this name in it: the file, and its manifest's kind."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_rows(path: str, *, split: str = "train", test_split: str | None = None) -> Iterator[Row]:
    """Rows of a file, a folder or a Hub name, lazily and in order, each with its true line or row number.

    A folder is one that this project wrote records or candidates to, one that ``datasets`` saved, or one
    with a file a split (``train.jsonl``, ``test.jsonl``). What has several splits gives those of ``split``;
    with ``test_split``, the rows of that one come first, marked as test rows, and the others as training
    rows.

    Raises:
        DataError: no such file, folder, Hub name or split; a file of a kind that is not read.
    """
    if test_split is None:
        yield from _rows(path, split, single=True)
        return
    for row in _rows(path, test_split, single=False):
        yield dataclasses.replace(row, split="test")
    for row in _rows(path, split, single=False):
        yield dataclasses.replace(row, split="train")


def content_hash(path: str, *, split: str = "train", test_split: str | None = None) -> str | None:
    """A SHA-256 over the bytes of all that ``read_rows`` reads, and how it is read.

    None for what lies elsewhere (a Hub name), can be read only once (a pipe), or cannot be read at all.
    """
    digest = hashlib.sha256()
    try:
        for one in (split, test_split):
            if one is None:
                continue
            kind, place = _part(Path(path), one) if Path(path).is_dir() else ("file", Path(path))
            places = [place / _OURS[kind][0], place / MANIFEST] if kind in _OURS else [place]
            if not all(map(_holds_still, places)):
                return None
            digest.update(os.fsencode(f"{kind} {place.relative_to(path)}\0"))
            for part in places:
                digest.update(sha256_of(part).encode())
    except (DataError, OSError):  # the reader says what is wrong
        return None
    return digest.hexdigest()


def _holds_still(place: Path) -> bool:
    """Whether a file or folder is all here: no pipe, and no link to a folder, which a walk passes by."""
    return place.is_file() or (
        place.is_dir() and not any(one.is_symlink() and one.is_dir() for one in place.rglob("*"))
    )


def _rows(path: str, split: str, *, single: bool) -> Iterator[Row]:
    """``single``: a file without splits will do."""
    place = Path(path)
    if place.is_dir():
        return _folder_rows(place, split)
    if place.exists():
        if not single:
            raise DataError(
                f"{path} is one file, it has no split '{split}'. Give a folder with {split}.jsonl and its "
                f"like, or leave dataset.test_split=null and let the prompts be split"
            )
        return _file_rows(place)
    if _looks_like_a_hub_name(path):
        return hub_rows(path, split)
    raise DataError(f"no file or folder '{path}'.{_near_file(place)}")


def _file_rows(path: Path) -> Iterator[Row]:
    ending = next((e for e in ENDINGS if path.name.lower().removesuffix(".gz").endswith(e)), None)
    if ending == ".jsonl":
        return jsonl_rows(path)
    if ending == ".json":
        return json_rows(path)
    if ending == ".csv":
        return csv_rows(path)
    if ending == ".tsv":
        return csv_rows(path, delimiter="\t")
    if ending == ".parquet":
        return parquet_rows(path)
    raise DataError(
        f"{path} is of no kind that is read: it should end with {', '.join(ENDINGS)}, or .gz after it"
    )


def _folder_rows(path: Path, split: str) -> Iterator[Row]:
    kind, place = _part(path, split)
    if kind in _OURS:
        name, of = _OURS[kind]
        verify(place, of, name)
        return jsonl_rows(place / name)
    return saved_rows(place, split) if kind == "saved" else _file_rows(place)


def _part(path: Path, split: str) -> tuple[Part, Path]:
    """What of a folder is read: one of this project's, one that ``datasets`` saved, or a split's file."""
    for kind, (name, _) in _OURS.items():
        for folder in (path, path / kind):
            if (folder / name).exists() and (folder / MANIFEST).exists():
                return kind, folder
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return "saved", path
    files = {_stem(file): file for file in sorted(path.iterdir()) if _stem(file)}
    if split in files:
        return "file", files[split]
    if not files:
        raise DataError(
            f"the folder {path} holds no data: neither {RECORDS} with its {MANIFEST}, nor a saved datasets "
            f"folder, nor a file a split ({split}.jsonl)"
        )
    near = registry.near(split, list(files))
    raise DataError(f"the folder {path} has no split '{split}'.{near} It has: {', '.join(files)}")


def _stem(file: Path) -> str:
    """``train`` for ``train.jsonl.gz``; nothing for what is no data file."""
    name = file.name.removesuffix(".gz")
    ending = next((e for e in ENDINGS if name.endswith(e)), None)
    return name.removesuffix(ending) if ending and file.is_file() else ""


def _looks_like_a_hub_name(path: str) -> bool:
    """``owner/name`` or ``name``, where nothing on disk suggests that a file was meant."""
    if not _HUB_NAME.fullmatch(path) or path.removesuffix(".gz").endswith(ENDINGS):
        return False
    return "/" not in path or not Path(path).parent.is_dir()


def _near_file(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" There is no folder '{parent}' either."
    found = get_close_matches(path.name, os.listdir(parent), n=1, cutoff=0.5)
    return f" Did you mean '{parent / found[0]}'?" if found else ""
