"""The memory that a run would need, told before it, by ZeRO stage and offload; no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from align.plan.settings import PlanSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """``stage=plan of=dpo ...``: the words of a run, and what they would take."""

    of: str
    """The stage that is planned; its options are typed as for the run itself."""
    order: tuple[str, ...]
    """All that are planned: ``of``, or several."""
    plan: PlanSettings = field(default_factory=PlanSettings)

    def execute(self, run: Run) -> None:
        """Prints one table a stage and writes plan.json.

        Each stage's own passes run on tensors that have shapes and no bytes, and what they would take is
        counted: parameters and buffers, gradients, moments, activations, reference, critic, reward models,
        keys and values.
        """
        from rich.console import Console

        from align.distributed.device import device
        from align.files import write_json
        from align.plan.count import needs_of, shape_of
        from align.plan.table import Plan as Planned
        from align.plan.table import as_json, memory_of_device, tables

        plans = []
        for step in run.steps:
            ranks = self.plan.ranks or step.launch.nproc * step.launch.nodes
            memory = (
                memory_of_device(ranks) if self.plan.memory_gb is None else int(self.plan.memory_gb * 1e9)
            )
            stage: Any = step.stage
            plans.append(
                Planned(
                    step.stage_name,
                    shape_of(step.stage_name, stage, self.plan, ranks),
                    needs_of(step.stage_name, stage, self.plan, device().type, ranks),
                    ranks,
                    memory,
                    (_choice_of(stage), stage.training.gradient_checkpointing),
                )
            )
        write_json(run.directory / "plan.json", {"plans": [as_json(one) for one in plans]})
        console = Console()
        for part in tables(plans):
            console.print(part)


def _choice_of(stage: Any) -> str:
    zero = stage.deepspeed
    return f"zero{zero.stage}{'_offload' if zero.offload else ''}" if zero.stage else "none"
