"""Where the boxes of a directed graph stand: columns by depth, few crossings, room for lines that pass by.

Sugiyama, Tagawa and Toda (1981), "Methods for visual understanding of hierarchical system structures".
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

Item = Hashable
Place = tuple[float, float]

_SWEEPS = 6
_PASSING = 0.4  # height of a line that passes a column, in boxes


@dataclass(frozen=True)
class Layers:
    """``places``: column and row of each box; ``routes``: places that each edge passes, its ends too."""

    places: dict[str, Place]
    routes: dict[tuple[str, str], list[Place]]


def layered(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layers:
    """Sources stand left of all that they lead to; whatever leads nowhere stands in the last column."""
    back = _steps_back(nodes, edges)
    deepest = max(back.values())
    columns: list[list[Item]] = [[] for _ in range(deepest + 1)]
    for node in nodes:
        columns[deepest - back[node]].append(node)
    chains: dict[tuple[str, str], list[Item]] = {}
    for edge in dict.fromkeys(edges):
        start, end = (deepest - back[one] for one in edge)
        passed: list[Item] = [(edge, column) for column in range(start + 1, end)]
        for column, item in zip(range(start + 1, end), passed, strict=True):
            columns[column].append(item)
        chains[edge] = [edge[0], *passed, edge[1]]
    _ordered(columns, list(chains.values()))
    found: dict[Item, Place] = {}
    for column, items in enumerate(columns):
        heights = [1.0 if isinstance(item, str) else _PASSING for item in items]
        y = -sum(heights) / 2
        for item, height in zip(items, heights, strict=True):
            found[item] = (float(column), y + height / 2)
            y += height
    routes = {edge: [found[item] for item in chain] for edge, chain in chains.items()}
    return Layers({node: found[node] for node in nodes}, routes)


def _steps_back(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Longest way from each node to the end."""
    into: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        into[source].append(target)
    back: dict[str, int] = {}

    def steps(node: str) -> int:
        if node not in back:
            back[node] = 0  # no run can go into itself, but a damaged run.json must not hang the page
            back[node] = 1 + max((steps(one) for one in into[node]), default=-1)
        return back[node]

    return {node: steps(node) for node in nodes}


def _ordered(columns: list[list[Item]], chains: Sequence[Sequence[Item]]) -> None:
    """Sorts each column by the middle of its neighbours, to the left and to the right in turn."""
    before: dict[Item, list[Item]] = {}
    after: dict[Item, list[Item]] = {}
    for chain in chains:
        for one, other in itertools.pairwise(chain):
            after.setdefault(one, []).append(other)
            before.setdefault(other, []).append(one)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 1
        for column in columns if forwards else reversed(columns):
            neighbours = before if forwards else after
            rank = {
                item: place / max(1, len(items) - 1) if len(items) > 1 else 0.5
                for items in columns
                for place, item in enumerate(items)
            }
            middle = {
                item: fmean([rank[one] for one in neighbours[item]]) if item in neighbours else rank[item]
                for item in column
            }
            column.sort(key=middle.__getitem__)
