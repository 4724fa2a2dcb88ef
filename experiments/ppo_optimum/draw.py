"""The figure: how likely each answer is to the policies that were trained, beside the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from align.files import written_aside
from experiments.ppo_optimum.runs import Reached
from experiments.ppo_optimum.task import optimum

COLOURS = ("#0072B2", "#D55E00", "#009E73")
MARKS = ("o", "s", "^")


def draw(found: Sequence[Reached], path: Path) -> None:
    """A panel a task: every reply's probability under each method's first run, against the optimum's."""
    tasks = list(dict.fromkeys(one.task for one in found))
    figure = Figure(figsize=(4.4 * len(tasks), 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for place, task in enumerate(tasks):
        ax = figure.add_subplot(1, len(tasks), place + 1)
        first = [one for one in found if one.task == task and one.seed == 0]
        best = np.exp(optimum(task, first[0].reference))
        low = 1e-5
        ax.plot([low, 1], [low, 1], color="#666666", linewidth=1, linestyle=":", label="the optimum")
        ax.scatter(best, np.exp(first[0].reference.logps), s=10, color="#BBBBBB", label="before training")
        for one, colour, mark in zip(first, COLOURS, MARKS, strict=False):
            reached = np.exp(one.policy.logps)
            ax.scatter(best, reached, s=14, marker=mark, color=colour, alpha=0.7, label=one.method.name)
        ax.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1))
        ax.set_xlabel("probability of a reply under the optimum", fontsize=8)
        ax.set_ylabel("under the policy", fontsize=8)
        ax.set_title(task.name, loc="left", fontsize=9.5)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        if place == 0:
            ax.legend(frameon=False, fontsize=8)
    with written_aside(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
