"""What SLURM tells the processes that ``srun`` starts, in the words that torch reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from align.errors import ConfigError

_PORTS = (20_000, 20_000)
"""First of the ports that jobs meet at, and how many: which one follows from the job's number."""


def adopt_srun(environment: MutableMapping[str, str]) -> None:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task of ``srun``.

    Nothing where there is one task, or a launcher has said it already. A batch script itself is no task.
    """
    size = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if size == 1 or "RANK" in environment or "SLURM_PROCID" not in environment:
        return
    node = int(environment["SLURM_NODEID"])
    found = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[node]),
        "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(port_of(environment)),
    }
    for name, value in found.items():
        environment.setdefault(name, value)


def node_rank(environment: Mapping[str, str]) -> int | None:
    """Which node of its job step this is; None outside SLURM."""
    text = environment.get("SLURM_NODEID")
    return int(text) if text is not None else None


def meeting_point(environment: Mapping[str, str]) -> str | None:
    """HOST:PORT of the first node of this job step; None outside SLURM."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    return f"{first_host(nodes)}:{port_of(environment)}" if nodes else None


def port_of(environment: Mapping[str, str]) -> int:
    """A port that the processes of one job step agree on without talking."""
    first, count = _PORTS
    job = int(environment.get("SLURM_JOB_ID", "0"))
    step = environment.get("SLURM_STEP_ID", "0")
    return first + (job * 7 + (int(step) if step.isdigit() else 0)) % count


def tasks_per_node(text: str) -> list[int]:
    """``2(x3),1`` -> [2, 2, 2, 1].

    Raises:
        ConfigError: it reads otherwise.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not found:
            raise ConfigError(f"SLURM_STEP_TASKS_PER_NODE={text} cannot be read: start with torchrun instead")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def first_host(text: str) -> str:
    """The first of a list of nodes: ``node[003-005,9],other`` -> ``node003``."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", text)
    if not found:
        raise ConfigError(f"SLURM_STEP_NODELIST={text} cannot be read: start with torchrun instead")
    return found[1] + (found[2] or "") + found[3]
