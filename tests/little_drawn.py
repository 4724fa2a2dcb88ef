"""Tests of runs draw one curve, the loss: one for each number takes as long as a short run itself."""

from __future__ import annotations

from align.report import figures

every_metric = figures._learnt


def draw_little() -> None:
    """From here on, in this process; ``every_metric`` is what a figure shows without it."""
    figures._learnt = lambda lines: every_metric(lines)[:1]
