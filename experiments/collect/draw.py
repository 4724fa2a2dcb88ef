"""The figure: how right each method's labels are, beside what they should be, and what DPO makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from align.files import written_aside
from align.report.panels import BLUE, GREY, ORANGE
from align.types import Result
from experiments.collect.methods import METHODS
from experiments.collect.table import Found, by_metric

_SMALL, _TITLE = 8, 9.5


def draw(found: Found, path: Path) -> None:
    """A line a method; where nothing has labels, nothing is drawn."""
    methods = {name: by_metric(entry) for name, entry in found["methods"].items()}
    shown = [name for name in METHODS if "labels/accuracy" in methods.get(name, {})]
    if not shown:
        return
    figure = Figure(figsize=(8.8, 0.8 + 0.36 * len(shown)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    labels, wins = figure.subplots(1, 2, sharey=True)
    for place, name in enumerate(shown):
        _expected(labels, place, methods[name], found["methods"][name])
        _measured(labels, place, methods[name]["labels/accuracy"], BLUE)
        policy = found["policies"].get(name)
        if policy is not None:
            _measured(wins, place, by_metric(policy)["dpo/gold_win_rate"], ORANGE)
    labels.set_yticks(range(len(shown)), shown, fontsize=_SMALL)
    labels.set_ylim(len(shown) - 0.5, -0.5)
    labels.set_title("labels that the gold agrees with", loc="left", fontsize=_TITLE)
    labels.set_xlabel("share of the pairs; hollow: what was to be expected", fontsize=_SMALL)
    wins.set_title("DPO on these pairs against SFT", loc="left", fontsize=_TITLE)
    wins.set_xlabel("share of unseen prompts on which its reply scores higher", fontsize=_SMALL)
    wins.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    for ax in (labels, wins):
        ax.tick_params(labelsize=_SMALL)
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.5)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    with written_aside(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _measured(ax: Any, place: int, result: Result, colour: str) -> None:
    """A dot, its interval, and the number beside it."""
    low, high = (result.value if bound is None else bound for bound in (result.ci_low, result.ci_high))
    ax.plot([low, high], [place, place], color=colour, linewidth=1.4)
    ax.plot(result.value, place, "o", color=colour, markersize=4.5)
    ax.annotate(
        f"{result.value:.2f}", (result.value, place), xytext=(0, 5), textcoords="offset points",
        ha="center", fontsize=_SMALL - 1.5,
    )  # fmt: skip


def _expected(ax: Any, place: int, results: Mapping[str, Result], entry: Mapping[str, Any]) -> None:
    """Hollow: a diamond is what the method says itself, a square what a stand-in's error makes."""
    for name in ("labels/expected_accuracy", "labels/claimed_accuracy"):
        if name in results:
            ax.plot(results[name].value, place, "D", color=GREY, markerfacecolor="none", markersize=7)
    if entry["by_construction"] is not None:
        ax.plot(entry["by_construction"], place, "s", color="black", markerfacecolor="none", markersize=9)
