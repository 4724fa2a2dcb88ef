"""``speed.png`` and ``ppo.png``: pairs or episodes a second; a row a table, a panel a part, a bar a side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from align.errors import DataError
from align.files import written_aside
from align.report.panels import BLUE, GREY
from experiments.speed.figures import Panel, middle, number

_INCHES = (3.1, 2.8)
_SMALL, _TITLE = 9, 10.5


def draw(results: Mapping[str, Any], path: Path, panels: Mapping[str, Panel]) -> None:
    """Bars are medians, thin lines reach from the slowest round to the fastest. A panel shows one part.

    Raises:
        DataError: none of the panels' parts was measured.
    """
    rows = {key: [part for part in panels if part in entry["parts"]] for key, entry in results.items()}
    rows = {key: parts for key, parts in rows.items() if parts}
    if not rows:
        raise DataError(f"{path}: nothing to draw; measure one of {', '.join(panels)}")
    columns = max(map(len, rows.values()))
    figure = Figure(
        figsize=(_INCHES[0] * columns, _INCHES[1] * len(rows)),
        dpi=150,
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )
    FigureCanvasAgg(figure)
    for row, (key, parts) in enumerate(rows.items()):
        for column, part in enumerate(parts):
            ax = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _panel(ax, results[key]["parts"][part]["rounds"], panels[part])
            if column == 0:
                ax.set_ylabel(f"{key.replace(' ', ', ')}\n{panels[part].unit} a second", fontsize=_SMALL)
    with written_aside(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _panel(ax: Any, rounds: Sequence[Mapping[str, Any]], panel: Panel) -> None:
    heights = [middle(rounds, side, "speed") for side in panel.bars]
    tops = list(heights)
    for place, (side, height) in enumerate(zip(panel.bars, heights, strict=True)):
        each = [number(one[side], "speed") for one in rounds]
        ax.bar(place, height, width=0.62, color=GREY if side == "theirs" else BLUE)
        ax.plot([place, place], [min(each), max(each)], color="black", linewidth=1)
        ax.annotate(
            f"{height:.3g}", (place, max(each)), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=_SMALL,
        )  # fmt: skip
        tops[place] = max(height, max(each))
    ratio = max(heights) / middle(rounds, "theirs", "speed")
    ax.set_title(f"{panel.label}: {ratio:.1f} times trl", loc="left", fontsize=_TITLE)
    ax.set_xticks(range(len(heights)), panel.bars.values(), fontsize=_SMALL)
    ax.set_xlim(-0.6, len(heights) - 0.4)
    ax.set_ylim(0, 1.15 * max(tops))
    ax.tick_params(labelsize=_SMALL)
    ax.spines[["top", "right"]].set_visible(False)
