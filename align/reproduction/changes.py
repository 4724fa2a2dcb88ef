"""What is otherwise than it was when a run was done: code, versions, machine, inputs. Each by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.files import sha256_of
from align.host import git_state, host_facts, versions
from align.reproduction.again import Part
from align.run import read_record


def changed_around(record: Mapping[str, Any]) -> list[str]:
    """Differences of code, versions and machine, one line each; none: the same bits are to be expected."""
    return [
        *_code(record.get("git"), git_state()),
        *_facts("version of ", record.get("versions", {}), versions()),
        *_facts("host ", record.get("host", {}), host_facts()),
    ]


def changed_inputs(parts: Sequence[Part]) -> list[str]:
    """Inputs whose hash, now that the run was done again, is another; one line each."""
    lines = []
    for part in parts:
        was = (read_record(part.was) or {}).get("inputs", {})
        now = (read_record(part.now) or {}).get("inputs", {})
        for role in sorted({*was, *now}):
            before, after = (one.get(role, {}).get("sha256") for one in (was, now))
            # a step's input may be what an earlier step made, which is compared as that step's product
            if before != after and not _made_here(was.get(role, {}), part):
                lines.append(f"input {_named(part, role)}: sha256 {_short(before)} -> {_short(after)}")
    return lines


def changed_models(record: Mapping[str, Any]) -> list[str]:
    """Models that went in and have changed or gone since, known before anything is done again."""
    lines = []
    for role, entry in record.get("inputs", {}).items():
        path, before = entry.get("path"), entry.get("sha256")
        if not path or not before or "run" not in entry or role == "data":
            continue
        place = Path(path) / "model" if (Path(path) / "model").is_dir() else Path(path)
        if not place.exists():
            lines.append(f"input {role}: {path} is gone")
        elif (after := sha256_of(place)) != before:
            lines.append(f"input {role}: sha256 of {path} {_short(before)} -> {_short(after)}")
    return lines


def _code(was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    if was is None or now is None:
        yield "code: no git checkout, so whether it is the same is not known"
        return
    if was["commit"] != now["commit"]:
        yield f"code: commit {was['commit'][:12]} -> {now['commit'][:12]}"
    if was["dirty"] or now["dirty"]:
        when = " and ".join(name for name, one in (("then", was), ("now", now)) if one["dirty"])
        yield f"code: changes that were not committed ({when})"


def _facts(what: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*was, *now}):
        if name in was and was[name] != now.get(name):
            yield f"{what}{name}: {was[name]} -> {now.get(name, 'absent')}"
        elif name not in was:
            yield f"{what}{name}: not written down -> {now[name]}"


def _made_here(entry: Mapping[str, Any], part: Part) -> bool:
    path = entry.get("path")
    return bool(part.name and path and Path(path).resolve().is_relative_to(part.was.resolve().parent))


def _named(part: Part, role: str) -> str:
    return f"{part.name}/{role}" if part.name else role


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else sha256[:12]
