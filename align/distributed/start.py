"""How a run is done: in this process, as one of the ranks that somebody has started, or by starting ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align.distributed.world import world
from align.errors import ConfigError

if TYPE_CHECKING:
    from align.run import Run


def start(run: Run) -> None:
    """Does a run's work.

    Raises:
        ConfigError: the stage works in one process and several are asked for, or two launchers are.
        AlignError: whatever the work stops at, in whichever process.
    """
    refuse_misfits(run)
    if run.launch.submit is not None and not run.is_step:
        _hand_in(run)
        return
    if run.launch.is_one_process() or world().size > 1 or not _has_ranks(run):
        run.execute()
        return
    run.check()
    from align.distributed.launch import launch

    launch(run)


def _hand_in(run: Run) -> None:
    from align.distributed.submit import submit
    from align.report.console import say

    job = submit(run)
    say(f"handed in as job {job.name} -> {run.directory}")
    say(f"  its log: {job.log}")


def refuse_misfits(run: Run) -> None:
    """What cannot be started as it is typed.

    Raises:
        ConfigError: says what, and what to type.
    """
    launch, ranks = run.launch, world().size
    asked = launch.nproc * launch.nodes
    if ranks > 1 and asked not in (1, ranks):
        raise ConfigError(
            f"launch.nproc={launch.nproc}, launch.nodes={launch.nodes}, and a launcher has started {ranks} "
            f"ranks already: leave out launch.nproc and launch.nodes, or start without torchrun"
        )
    if max(ranks, asked) == 1 or _has_ranks(run) or run.is_step:
        return
    if run.steps:
        if ranks > 1 or launch.nodes > 1:
            count = ranks if ranks > 1 else launch.nproc
            raise ConfigError(
                f"a pipeline starts the ranks of its steps itself, on one machine: "
                f"type python -m align stage={run.stage_name} launch.nproc={count}"
            )
        return
    raise ConfigError(
        f"stage={run.stage_name} works in one process: "
        + ("start it without a launcher" if ranks > 1 else "leave out launch.nproc and launch.nodes")
    )


def _has_ranks(run: Run) -> bool:
    return bool(getattr(run.stage, "many_ranks", False))
