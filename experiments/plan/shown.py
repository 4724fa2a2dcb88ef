"""The table and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

Found = Mapping[str, Mapping[str, float]]
PARTS = ("weights", "gradients", "optimiser", "activations", "others", "kv_cache")


def table(found: Found) -> str:
    """Markdown, one line a case, in MB."""
    lines = [
        "| run | planned | measured | planned / measured |",
        "|---|---|---|---|",
    ]
    for name, one in found.items():
        planned, peak = one["total"], one["measured"]
        lines.append(f"| {name} | {planned:.0f} | {peak:.0f} | {planned / peak:.2f} |")
    return "\n".join(lines)


def draw(found: Found, path: Path) -> None:
    """Planned parts as stacked bars, measured peaks as marks."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(found) + 1.2), layout="constrained")
    names = list(found)
    for place, name in enumerate(names):
        left = 0.0
        for number, part in enumerate(PARTS):
            axes.barh(
                place, found[name][part], left=left, color=f"C{number}", label=part if place == 0 else None
            )
            left += found[name][part]
        axes.plot(
            found[name]["measured"], place, "k|", markersize=14, label="measured" if place == 0 else None
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("MB (parts of the plan; not all are there at once)")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
