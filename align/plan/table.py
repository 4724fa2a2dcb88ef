"""The plan as a table 80 columns wide, and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text

from align.plan.count import Shape
from align.plan.needs import CHOICES, Held, Needs, held, most_that_fits

UNITS = {"GB": 1e9, "MB": 1e6}
HEADS = ("deepspeed", "ckpt", "weights", "grads", "adam", "activ.", "other", "total", "host", "fits")

LEGEND = (
    "ckpt: training.gradient_checkpointing",
    "adam: its moments, and under ZeRO the copy of the weights that it changes",
    "other: reference, reward models, keys and values, the process without a model",
    "total: the most at once, in training or where all weights are whole (loading,",
    "  sampling, a look at the validation split)",
    "host: the processor's memory for what is offloaded",
    "fits: the largest training.micro_batch_size; bold: the run as it is typed",
)
"""What the columns say."""


@dataclass(frozen=True)
class Plan:
    """What a stage needs, and what one of ``ranks`` ranks holds of it under each choice."""

    name: str
    shape: Shape
    needs: Needs
    ranks: int
    memory: int
    """Bytes of one device, or of a rank's share of this machine."""
    own: tuple[str, bool]
    """The choice that the run's settings make."""

    def rows(self) -> list[Held]:
        """All choices, with and without recomputing activations."""
        return [
            held(self.needs, choice, self.ranks, recomputed=recomputed)
            for choice in CHOICES
            for recomputed in (False, True)
        ]

    def of_run(self) -> Held:
        """What the run as it is typed needs."""
        return next(one for one in self.rows() if (one.choice, one.recomputed) == self.own)

    def most(self, row: Held) -> int:
        """The largest ``training.micro_batch_size`` that fits under a choice."""
        return most_that_fits(row, self.shape.items, self.memory - _on_the_same(row))


def memory_of_device(ranks: int) -> int:
    """Bytes of the first CUDA device; without one, a rank's share of this machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks


def table_of(plan: Plan) -> Table:
    """One row a choice, in GB or MB (10^9 or 10^6 bytes); the last column is the micro-batch that fits."""
    unit = _unit(plan)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
    for row in plan.rows():
        most = plan.most(row)
        parts = (row.weights, row.gradients, row.optimiser, row.activations, row.others + row.kv_cache)
        cells = [
            row.choice,
            "yes" if row.recomputed else "no",
            *(_shown(one, unit) for one in (*parts, row.total, row.host)),
            f"{most}" if most else "no",
        ]
        style = "bold" if (row.choice, row.recomputed) == plan.own else ""
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def lines_of(plan: Plan) -> list[str]:
    """What the table is about, and what it assumes."""
    shape, needs, unit = plan.shape, plan.needs, _unit(plan)
    what = f"{shape.items} x (prompt {shape.prompt} + {shape.replies} x reply {shape.reply} tokens)"
    each = f"each of {plan.ranks} ranks needs" if plan.ranks > 1 else "one rank needs"
    where = "its device has" if torch.cuda.is_available() else "its share of this machine is"
    lines = [
        f"{plan.name}: {unit} that {each}; {where} {_shown(plan.memory, unit)}",
        f"a rank's pass: {what}; passes a step: {shape.passes}",
    ]
    if needs.reference:
        when = "all the while" if needs.reference_stays else "before the training, then freed"
        lines.append(f"reference: {_said(needs.reference, unit)}, {when}")
    for name, size in (("critic", needs.critic), ("reward models", needs.reward)):
        if size:
            lines.append(f"{name}: {_said(size, unit)}")
    if needs.kv_cache:
        lines.append(f"keys and values of {shape.written} replies: {_said(needs.kv_cache, unit)}")
    lines.append(f"a checkpoint, in the processor's memory of rank 0: {_said(3 * needs.trained, unit)}")
    if needs.libraries:
        lines.append(f"the process without a model: {_said(needs.libraries, unit)}")
    return [*lines, *LEGEND]


def as_json(plan: Plan) -> Mapping[str, Any]:
    """Everything, in bytes."""
    return {
        "stage": plan.name,
        "shape": asdict(plan.shape),
        "needs": {**asdict(plan.needs), "passing": _named(plan.needs.passing)},
        "ranks": plan.ranks,
        "memory": plan.memory,
        "rows": [{**asdict(row), "most": plan.most(row)} for row in plan.rows()],
        "run": asdict(plan.of_run()),
    }


def _named(passing: Mapping[bool, int]) -> dict[str, int]:
    return {"recomputed" if key else "plain": value for key, value in passing.items()}


def _on_the_same(row: Held) -> int:
    """What is offloaded takes the same memory where there is no device of its own."""
    return 0 if torch.cuda.is_available() else row.host


def _unit(plan: Plan) -> str:
    return "GB" if max(row.total for row in plan.rows()) >= 1e10 else "MB"


def _shown(size: float, unit: str) -> str:
    value = size / UNITS[unit]
    return f"{value:.2f}" if unit == "GB" and value < 99.5 else f"{value:.0f}"


def _said(size: float, unit: str) -> str:
    least = 0.01 if unit == "GB" else 1
    shown = f"less than {least}" if size < least * UNITS[unit] else _shown(size, unit)
    return f"{shown} {unit}"


def tables(plans: Sequence[Plan]) -> list[Any]:
    """Lines and table of each stage."""
    return [part for plan in plans for part in ("", *lines_of(plan), "", table_of(plan))]
