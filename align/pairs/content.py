"""What prepared data follows from, as one hash: the name under which it is kept for later runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.files import sha256_of
from align.pairs.store import STORE_VERSION
from align.protocols import KnownContent

if TYPE_CHECKING:
    from align.pairs.read import Wants
    from align.settings import DatasetSettings

_ROOT = Path(__file__).resolve().parents[2]

CODE = (
    "align/pairs/*.py",
    "align/collect/_affixes.py",
    "align/agreement/__init__.py",
    "align/agreement/dawid_skene.py",
    "align/agreement/table.py",
    "align/models/chat.py",
    "align/models/tokenizer.py",
    "align/models/templates.py",
    "align/tensors.py",
    "align/errors.py",
    "align/files.py",
    "align/registry.py",
    "align/types.py",
    "data/_*.py",
)
"""The code that makes tokens of rows, beside the source's own module. A test follows the imports."""

LIBRARIES = ("datasets", "jinja2", "numpy", "pyarrow", "tokenizers", "transformers")
"""Packages that read rows, write text or encode it."""


def content_key(dataset: DatasetSettings, chat: object, max_length: int, wants: Wants) -> str | None:
    """A SHA-256 over all that decides what ``prepare`` makes; None where something of it cannot be known.

    That is: the source's fields and the bytes that it reads, the rules of reading and splitting, the
    tokenizer and its template, the length, the kind of example, the project's code, the libraries.
    """
    source = dataset.source
    module = type(source).__module__
    if not (isinstance(source, KnownContent) and isinstance(chat, KnownContent)):
        return None
    if not module.startswith("data."):  # what else somebody else's module reads or imports is not known
        return None
    rows, tokens = source.content_hash(), chat.content_hash()
    code = code_hashes(module)
    if rows is None or tokens is None or not _is_as_loaded(code):
        return None
    parts = {
        "source": [module, _fields(source)],
        "rows": rows,
        "rules": {name: value for name, value in _fields(dataset).items() if name != "source"},
        "tokens": tokens,
        "max_length": max_length,
        "wants": wants,
        "store": STORE_VERSION,
        "code": code,
        "libraries": {"python": sys.version, **{name: metadata.version(name) for name in LIBRARIES}},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def code_hashes(module: str) -> dict[str, str]:
    """The SHA-256 of each file of ``CODE`` and of a source's module, by its place in the project."""
    own = f"{module.replace('.', '/')}.py"
    files = {file for pattern in (*CODE, own) for file in _ROOT.glob(pattern)}
    return {file.relative_to(_ROOT).as_posix(): sha256_of(file) for file in sorted(files)}


def _is_as_loaded(code: dict[str, str]) -> bool:
    """Whether the files still hold what runs here; an edit would otherwise be taken for its maker."""
    return bool(code) and all(_AS_LOADED.get(place) == digest for place, digest in code.items())


def _fields(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


_AS_LOADED = code_hashes("data.*")
"""Some thirty small files, hashed when this module is imported: before anything is read with them."""
