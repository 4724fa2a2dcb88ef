"""The picture of a lineage: columns from origins to results, a box each, what went into what as lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

from align.comparison.drawn import COLOURS, MIDDLE, Drawn, panels
from align.comparison.layers import Place, layered
from align.comparison.lineage import Lineage

_WIDE, _HIGH = 2.3, 0.7  # inches from column to column and from row to row
_BOX, _TALL = 0.74, 0.66  # of them, what a box fills
_TITLE, _DETAIL = 24, 36  # characters that fit
_KINDS = {"run": COLOURS[0], "data": COLOURS[2], "judges": COLOURS[1], "model": COLOURS[3]}
_ROLES = {"model": MIDDLE, "data": COLOURS[2], "reward": COLOURS[4], "judged": COLOURS[1]}


def lineage_figure(found: Lineage) -> Drawn:
    """Origins at the left, what is compared at the right."""
    laid = layered(list(found.nodes), [(edge.source, edge.target) for edge in found.edges])
    columns = 1 + max(x for x, _ in laid.places.values())
    ys = [y for route in laid.routes.values() for _, y in route] + [y for _, y in laid.places.values()]
    roles = list(dict.fromkeys(edge.role for edge in found.edges))

    def on(ax: Any) -> None:
        for edge in found.edges:
            _line(ax, laid.routes[edge.source, edge.target], _role_colour(edge.role))
        for key, node in found.nodes.items():
            several = f"  × {node.count}" if node.count > 1 else ""
            _box(ax, laid.places[key], _KINDS[node.kind], f"{node.title}{several}", node.detail)
        shown = [Line2D([], [], color=_role_colour(role), linewidth=1.4, label=role) for role in roles]
        ax.legend(handles=shown, frameon=False, fontsize=7, ncols=8, loc="upper left", bbox_to_anchor=(0, 0))
        ax.set_xlim(-0.45, columns - 0.55)
        ax.set_ylim(max(ys) + 0.5, min(ys) - 0.5)
        ax.set_axis_off()

    figure = panels({"": on}, wide=_WIDE * columns, high=_HIGH * (max(ys) - min(ys) + 1) + 0.4)
    rows = []
    for edge in found.edges:
        source, target = found.nodes[edge.source], found.nodes[edge.target]
        rows.append((source.kind, source.title, source.detail, edge.role, target.title, target.detail))
    caption = (
        "From left to right: what went into what, by the colour of the line. Green boxes are data, red ones "
        "who judged it, pink ones models from elsewhere, blue ones runs; runs that differ in their seed "
        "alone share a box. What evaluations measured with (reference, reward, prompts) is left out."
    )
    names = ("kind", "source", "source_detail", "role", "target", "target_detail")
    title = "From people, prompts and models to what is compared"
    return Drawn("lineage", "lineage", title, caption, figure, names, rows)


def _box(ax: Any, place: Place, colour: str, title: str, detail: str) -> None:
    x, y = place
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    box = FancyBboxPatch(
        (x - _BOX / 2, y - _TALL / 2),
        _BOX,
        _TALL,
        mutation_aspect=_WIDE / _HIGH,
        boxstyle="round,pad=0,rounding_size=0.03",
        linewidth=1.2,
        edgecolor=colour,
        facecolor=(red, green, blue, 0.16),
    )
    ax.add_patch(box)
    about = {"ha": "center", "va": "center", "parse_math": False}
    up = 0.12 if detail else 0.0
    ax.text(x, y - up, _clipped(title, _TITLE), fontsize=8, fontweight="bold", **about)
    ax.text(x, y + 0.17, _clipped(detail, _DETAIL), fontsize=6, **about)


def _line(ax: Any, route: Sequence[Place], colour: str) -> None:
    """A smooth line from the side of one box to the side of another, through what lies between."""
    passed = [(x + side, y) for x, y in route[1:-1] for side in (-_BOX / 2, _BOX / 2)]
    points = [(route[0][0] + _BOX / 2, route[0][1]), *passed, (route[-1][0] - _BOX / 2, route[-1][1])]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        bend = (x1 - x0) / 2
        vertices += [(x0 + bend, y0), (x1 - bend, y1), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    ax.add_patch(PathPatch(Curve(vertices, codes), fill=False, edgecolor=colour, linewidth=1.1, alpha=0.9))
    x, y = points[-1]
    ax.annotate("", (x + 0.005, y), (x - 0.03, y), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 0})


def _role_colour(role: str) -> str:
    return _ROLES.get(role, MIDDLE)


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
