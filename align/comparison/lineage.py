"""Where runs come from: back from a policy to the people, prompts and models that its pairs came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from align.comparison.groups import Group
from align.pairs.records import RECORDS
from align.run import read_record

Kind = Literal["run", "data", "judges", "model"]

UNTOLD = frozenset({"tokenizer", "chat_template", "template"})
"""Inputs that follow from others; in run.json, not in the picture."""
MOST_NODES = 40
"""Beyond, runs of one stage are one box, whatever their settings."""
_DEEPEST = 12
_FILES = (".jsonl", ".json", ".parquet", ".csv")
_MOST_RECORDS = 200_000  # read for who judged; more say the same


@dataclass(frozen=True)
class Node:
    """One box: a run (or several alike), a data set, who judged it, or a model from elsewhere."""

    key: str
    kind: Kind
    title: str
    detail: str
    count: int = 1
    """Runs that it stands for."""


@dataclass(frozen=True)
class Edge:
    """``source`` went into ``target`` as ``role`` (``model``, ``data``, ``reward``, ``judged``)."""

    source: str
    target: str
    role: str


@dataclass
class Lineage:
    """Boxes by key, and what went into what."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)


def lineage_of(groups: Sequence[Group]) -> Lineage:
    """All runs and what they descend from; runs alike that went into the same are one box.

    Read are the inputs that each run.json holds (they name the runs that made them), and the records that
    pairs were read from, where they still lie there.
    """
    whole = Lineage()
    for group in groups:
        for run in group.runs:
            _trace(whole, run.record, run.directory, f"run {run.directory}")
    leaves = {f"run {run.directory}": group.label for group in groups for run in group.runs}
    merged = _merged(whole, leaves)
    return merged if len(merged.nodes) <= MOST_NODES else _merged(whole, dict.fromkeys(leaves, ""))


def _trace(found: Lineage, record: Mapping[str, Any], place: Path | None, key: str, depth: int = 0) -> None:
    """Adds a run and all that went into it."""
    stage = str(record.get("stage") or "run")
    name = "" if place is None or place.name == stage else place.name
    found.nodes.setdefault(key, Node(key, "run", stage, name))
    if depth >= _DEEPEST:
        return
    for role, entry in (record.get("inputs") or {}).items():
        # what an evaluation measures with is no part of where its policy comes from
        if role not in UNTOLD and (record.get("stage") != "evaluate" or role == "model"):
            source = _input(found, role, entry, record, depth)
            found.edges[Edge(source, key, role.split(".")[0])] = None
    _trace_steps(found, record, place, key, depth)


def _trace_steps(found: Lineage, record: Mapping[str, Any], place: Path | None, key: str, depth: int) -> None:
    """Adds a pipeline's steps; into it go those on which no other step builds."""
    steps = record.get("config", {}).get("order") or []
    keys = {f"run {place / step}": place / step for step in steps} if place else {}
    for step, directory in keys.items():
        inner = read_record(directory)
        if inner:
            _trace(found, inner, directory, step, depth + 1)
    built_on = {edge.source for edge in found.edges}
    for step in keys:
        if step in found.nodes and step not in built_on:
            found.edges[Edge(step, key, "step")] = None


def _input(found: Lineage, role: str, entry: Mapping[str, Any], record: Mapping[str, Any], depth: int) -> str:
    """Adds what went in under a role; returns its key."""
    path, origin = entry.get("path"), entry.get("run")
    place = Path(path) if path else None
    if origin and place is not None:
        home = _home(place)
        key = f"run {home}"
        known = key in found.nodes
        # the run's own file tells more than what was copied from it, where it is still there
        if not known:
            _trace(found, _own(home, entry) or origin, home, key, depth + 1)
        if role == "data" and not known:
            _judges(found, place, key)
        return key
    if role.split(".")[0] == "data":
        return _data(found, place, record)
    title = "new weights" if place is None else _short(str(place))
    key = f"model {path}"
    found.nodes.setdefault(key, Node(key, "model", title, "from scratch" if place is None else str(path)))
    return key


def _home(place: Path) -> Path:
    """The run directory that an input lies in, also where it does no longer."""
    for one in (place, place.parent):
        if (one / "run.json").is_file():
            return one
    return place.parent if place.suffix in _FILES or place.name == "model" else place


def _own(home: Path, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run.json beside an input, unless another run has taken its place since."""
    record = read_record(home)
    same = record and record.get("command") == (entry.get("run") or {}).get("command")
    return record if same else None


def _data(found: Lineage, place: Path | None, record: Mapping[str, Any]) -> str:
    dataset = record.get("config", {}).get("dataset", {})
    name = dataset.get("name") or next(
        (
            word.split("=", 1)[1]
            for word in reversed(record.get("command") or [])
            if str(word).startswith("dataset=")
        ),
        "the stage's own",
    )
    key = f"data {name} {place}"
    if key not in found.nodes:
        detail = "built in" if place is None else _short(str(place), 34)
        found.nodes[key] = Node(key, "data", str(name), detail)
        if place is not None:
            _judges(found, place, key)
    return key


def _judges(found: Lineage, place: Path, key: str) -> None:
    """Adds who judged a file of records, and who wrote its replies."""
    path = place / RECORDS if place.is_dir() else place
    if path.name != RECORDS or not path.is_file():
        return
    judges: dict[str, Counter[str]] = {}
    writers: Counter[str] = Counter()
    ties = records = 0
    with path.open(encoding="utf-8") as file:
        for _, line in zip(range(_MOST_RECORDS), file, strict=False):
            row = json.loads(line)
            judge = row.get("judge") or {}
            judges.setdefault(str(judge.get("kind", "unknown")), Counter())[str(judge.get("name"))] += 1
            writers.update(str(one["model"]) for one in row.get("replies", []) if one.get("model"))
            records += 1
            ties += row.get("preferred") in ("tie", "both_bad")
    for kind, names in judges.items():
        judged = sum(names.values())
        # people are counted, not named: who they are is nobody's business who reads the page
        people = "person" if len(names) == 1 else "people"
        title = f"{len(names)} {people}" if kind == "human" else ", ".join(sorted(names)[:2])
        detail = f"{kind if kind != 'human' else 'their'} judgements: {judged}, {ties} ties of {records}"
        node = f"judges {key} {kind}"
        found.nodes[node] = Node(node, "judges", _short(title), detail)
        found.edges[Edge(node, key, "judged")] = None
    for writer in sorted(writers):
        inside = f"run {writer}"
        if inside not in found.nodes and read_record(Path(writer)) is None:
            found.nodes.setdefault(
                f"model {writer}", Node(f"model {writer}", "model", _short(writer), "wrote replies")
            )
            found.edges[Edge(f"model {writer}", key, "wrote")] = None


def _merged(whole: Lineage, leaves: Mapping[str, str]) -> Lineage:
    """Runs of one stage that went into the same boxes in the same roles become one box."""
    into: dict[str, list[Edge]] = {}
    for edge in whole.edges:
        into.setdefault(edge.source, []).append(edge)
    names: dict[str, str] = {}

    def name_of(key: str) -> str:
        if key not in names:
            node = whole.nodes[key]
            targets = sorted({(name_of(edge.target), edge.role) for edge in into.get(key, [])})
            # data, people and models are one thing each, however many runs read them
            own = (node.title, leaves.get(key), targets) if node.kind == "run" else key
            names[key] = str((node.kind, own))
        return names[key]

    members: dict[str, list[str]] = {}
    for key in whole.nodes:
        members.setdefault(name_of(key), []).append(key)
    merged = Lineage()
    for keys in members.values():
        first = whole.nodes[keys[0]]
        detail = leaves.get(keys[0]) or (first.detail if len(keys) == 1 else "")
        merged.nodes[keys[0]] = Node(keys[0], first.kind, first.title, detail, len(keys))
    stands_for = {key: keys[0] for keys in members.values() for key in keys}
    for edge in whole.edges:
        merged.edges[Edge(stands_for[edge.source], stands_for[edge.target], edge.role)] = None
    return merged


def _short(text: str, most: int = 26) -> str:
    return text if len(text) <= most else f"...{text[-most + 3 :]}"
