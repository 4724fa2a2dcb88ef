"""Under which names what goes into a run is known to a tracker: data -> SFT -> reward -> policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PARTS = ("tokenizer", "chat_template")
"""Inputs that come with a model, and are linked with it."""


def linked(
    role: str, entry: Mapping[str, Any], origin: Mapping[str, Any] | None, place: Path | None
) -> Iterator[tuple[str, str, Path | None, str]]:
    """Name, kind, files and SHA-256 of an input, as the run that made it offered it.

    Data that no run made is named by its hash, without its files: they may be large, and belong to others.
    """
    if role in _PARTS:
        return
    outputs = (origin or {}).get("outputs", {})
    offered = [(what, one) for what, one in outputs.items() if "artifact" in one]
    for what, one in offered:
        kind = "model" if what == "model" else "dataset"
        yield one["artifact"], kind, _moved(one["path"], origin or {}, place), one["sha256"]
    if not offered and role == "data" and "sha256" in entry:
        yield f"data-{entry['sha256'][:12]}", "dataset", None, entry["sha256"]


def _moved(path: str, origin: Mapping[str, Any], place: Path | None) -> Path:
    """Where an output lies now: the run may have been moved since, or been run from another folder."""
    was = Path(origin.get("config", {}).get("run", {}).get("dir", ""))
    here = place if place is not None and (place / "run.json").is_file() else (place or Path()).parent
    return here / Path(path).relative_to(was) if Path(path).is_relative_to(was) else Path(path)
