"""One rank of two is killed, stopped or asked to end: seconds until the command is over, and what it says."""

from __future__ import annotations

import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from experiments.ranks.command import CommandFailed, begun
from experiments.ranks.steps import KINDS, TRAINING, WORLD

GRACE = 15
"""Seconds that are granted (``launch.grace``)."""
ROUNDS = 3
BEGUN = 3
"""Steps that are taken before anything happens."""
PATIENCE = 240.0
FALLS = {
    "rank 1 is killed (SIGKILL)": (signal.SIGKILL, "rank", 9),
    "rank 1 hangs (SIGSTOP)": (signal.SIGSTOP, "rank", 9),
    "the command is asked to end (SIGTERM)": (signal.SIGTERM, "command", 143),
}
"""Name -> signal, who gets it, and the exit code that the command should have."""


def measured(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Per fall the seconds of each round, the exit code, whether the rank was named, and who outlived it."""
    found: dict[str, Any] = {"grace": GRACE, "falls": {}}
    for number, (name, (sign, whom, code)) in enumerate(FALLS.items()):
        rounds = [_fall(folder, f"fall-{number}-{turn}", sign, whom) for turn in range(ROUNDS)]
        wrong = [one for one in rounds if one["code"] != code]
        if wrong:
            raise CommandFailed(f"{name}: exit code {wrong[0]['code']}, not {code}\n{wrong[0]['said']}")
        found["falls"][name] = {
            "seconds": statistics.median(one["seconds"] for one in rounds),
            "longest": max(one["seconds"] for one in rounds),
            "code": code,
            "named": all("rank 1 of 2" in one["said"] for one in rounds) if whom == "rank" else None,
            "left": sum(one["left"] for one in rounds),
            "rounds": len(rounds),
        }
        say(f"  {name}: {found['falls'][name]['seconds']:.1f} s")
    return found


def _fall(folder: Path, name: str, sign: signal.Signals, whom: str) -> dict[str, Any]:
    place = folder / name
    endless = [word for word in TRAINING if not word.startswith("training.max_steps")]
    process = begun(
        "stage=dpo", *WORLD, *endless, "training.max_steps=100000", *KINDS["zero2"], "launch.nproc=2",
        f"launch.grace={GRACE}", f"run.dir={place}", folder=folder,
    )  # fmt: skip
    try:
        _wait_for_steps(process, place)
        below = psutil.Process(process.pid).children(recursive=True)
        target = process.pid if whom == "command" else _rank_one(below).pid
        began = time.monotonic()
        psutil.Process(target).send_signal(sign)
        _, said = process.communicate(timeout=PATIENCE)
        seconds = time.monotonic() - began
        _, left = psutil.wait_procs(below, timeout=2)
    finally:
        if process.poll() is None:
            process.kill()
    return {"seconds": seconds, "code": process.returncode, "said": said[-3000:], "left": len(left)}


def _wait_for_steps(process: subprocess.Popen[str], run: Path) -> None:
    file, until = run / "metrics.jsonl", time.monotonic() + PATIENCE
    while not file.exists() or len(file.read_bytes().splitlines()) < BEGUN:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise CommandFailed(f"no step was taken: {process.communicate()[1][-3000:]}")
        time.sleep(0.1)


def _rank_one(processes: list[psutil.Process]) -> psutil.Process:
    return next(one for one in processes if one.environ().get("RANK") == "1")
