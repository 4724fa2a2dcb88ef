"""The machine, the code and the libraries, as far as they can change a number."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from align import __version__

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "deepspeed", "numpy", "tokenizers", "wandb")
"""Packages whose versions can change a number."""


def host_facts() -> dict[str, Any]:
    """Python, the processor and how many threads sum up: sums in another order are other numbers."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    set_threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": int(set_threads) if set_threads.isdigit() else cores,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def _processor() -> str:
    """The processor's name; what Python knows of it where Linux does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that this code runs from; None outside one."""

    def git(*words: str) -> str:
        here = Path(__file__).resolve().parent
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Versions of what can change a number; what is not installed is left out."""
    found = {"align": __version__, "python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
