"""Both sides in turn, each measurement in a process of its own, several rounds."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from align.overrides import quoted
from experiments.speed.figures import PPO_SIDES
from experiments.speed.words import TINY, TINY_AXES, stage_words
from experiments.speed.work import PPO_PARTS, ROOT, ChildFailed, Job, Role, Work, world_facts

Measured = dict[str, Any]
"""What one process found (``child.main``); without ``losses``, which are compared and left."""
Round = dict[str, Any]
"""The measurements of one part in one round, by side."""


@dataclass(frozen=True)
class Place:
    """Where processes write, and what they are started with."""

    work: Work
    folder: Path
    say: Callable[[str], None]

    @property
    def world(self) -> Path:
        """What ``prepare`` fills."""
        return self.folder / "world"

    def target(self, name: str) -> str:
        """The option that gives a run this folder."""
        return f"run.dir={quoted(str(self.folder / name))}"

    def child(self, role: Role, what: str, name: str, cache: Path | None = None) -> Measured:
        """One job to its end; ``name`` is its folder's."""
        job = Job(role, what, self.work, self.world, self.folder / name)
        command = [sys.executable, "-m", "experiments.speed.child", job.text()]
        lines = self.command(command, name, cache or self.folder / "caches" / name).splitlines()
        found: Measured = json.loads(lines[-1])
        if "seconds" in found:
            unit = next(one for one in ("tokens", "pairs", "episodes") if one in found)
            self.say(f"  {name}: {found[unit] / found['seconds']:.2f} {unit}/s, {found['peak_mb']:.0f} MB")
        return found

    def command(self, command: Sequence[str], name: str, cache: Path) -> str:
        """Runs a command in the project's folder; returns its stdout, and keeps the rest in a log.

        Raises:
            ChildFailed: it ended with another exit code than 0.
        """
        log = self.folder / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=self._environment(cache),
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        if done.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-12:])
            raise ChildFailed(f"{name} ended with exit code {done.returncode}:\n{tail}")
        return done.stdout

    def _environment(self, cache: Path) -> dict[str, str]:
        added = {
            "OMP_NUM_THREADS": str(self.work.threads),
            "HF_HUB_OFFLINE": "1",
            "ALIGN_CACHE": str(cache),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            # both sides, or a line about parallelism after each fork
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.work.device == "cpu":
            added["CUDA_VISIBLE_DEVICES"] = ""
        return {**os.environ, **added}


def dpo(place: Place, turn: int) -> Round:
    """DPO with the reference's pass: ours with an empty cache, trl's in every step."""
    return _both(
        turn,
        ours=lambda: place.child("ours", "dpo", f"{turn}-dpo-ours", _filled(place, turn)),
        theirs=lambda: place.child("theirs", "dpo", f"{turn}-dpo-theirs"),
    )


def precomputed(place: Place, turn: int) -> Round:
    """DPO without it: ours with the cache that an earlier run filled, trl's after its precomputation."""
    cache = _filled(place, turn)
    if not cache.exists():
        place.child("ours", "dpo", f"{turn}-precomputed-first", cache)
    return _both(
        turn,
        ours=lambda: place.child("ours", "dpo", f"{turn}-precomputed-ours", cache),
        theirs=lambda: place.child("theirs", "precomputed", f"{turn}-precomputed-theirs"),
    )


def reward(place: Place, turn: int) -> Round:
    """A reward model."""
    return _both(
        turn,
        ours=lambda: place.child("ours", "reward", f"{turn}-reward-ours"),
        theirs=lambda: place.child("theirs", "reward", f"{turn}-reward-theirs"),
    )


def sweep(place: Place, turn: int) -> Round:
    """The same command with one beta and with four, each with an empty cache at its beginning."""
    betas = place.work.betas
    found: Round = {}
    for name, some in (("one", (place.work.beta,)), ("all", betas)):
        label = f"{turn}-sweep-{name}"
        words = [word for word in stage_words("dpo", place.work, place.world) if "loss.beta" not in word]
        varied = f"loss.beta={','.join(map(str, some))}"
        target = f"run.dir={quoted(str(place.folder / label))}"
        command = [sys.executable, "-m", "align", "-m", "stage=dpo", *words, varied, target]
        began = time.perf_counter()
        place.command(command, label, place.folder / "caches" / label)
        found[name] = {"seconds": time.perf_counter() - began, "runs": len(some)}
        place.say(f"  {label}: {found[name]['seconds']:.1f} s")
    return found


def jobs(place: Place, turn: int) -> Round:
    """Eight tiny runs, one after another from the shell, and as one sweep; each side begins with no cache."""
    axes = [f"{key}={','.join(values)}" for key, values in TINY_AXES.items()]
    alone = [[f"{key}={value}" for key, value in zip(TINY_AXES, one, strict=True)]
             for one in itertools.product(*TINY_AXES.values())]  # fmt: skip
    sides: dict[str, Callable[[], Measured]] = {
        "alone": lambda: _seconds(
            place,
            f"{turn}-jobs-alone",
            [[*TINY, *own, place.target(f"{turn}-jobs-alone/{number}")] for number, own in enumerate(alone)],
        ),
        "sweep": lambda: _seconds(
            place,
            f"{turn}-jobs-sweep",
            [
                [
                    "-m",
                    *TINY,
                    *axes,
                    f"launch.parallel={place.work.threads}",
                    place.target(f"{turn}-jobs-sweep"),
                ]
            ],
        ),
    }
    found = _in_turn(turn, **sides)
    words = [*TINY, *alone[0], place.target(f"{turn}-jobs-one")]
    command = [sys.executable, "-m", "experiments.speed.startup", *words]
    said = place.command(command, f"{turn}-jobs-one", place.folder / "caches" / f"{turn}-jobs-sweep")
    return {**found, "one": json.loads(said.splitlines()[-1])}


def _seconds(place: Place, name: str, commands: Sequence[Sequence[str]]) -> Measured:
    """The time of some of our commands in a row, which share a cache."""
    began = time.perf_counter()
    for words in commands:
        place.command([sys.executable, "-m", "align", *words], name, place.folder / "caches" / name)
    seconds = time.perf_counter() - began
    place.say(f"  {name}: {seconds:.1f} s")
    return {"seconds": seconds}


def sampling(place: Place, turn: int) -> Round:
    """Replies of one length to prompts of one length, by our sampler and by ``model.generate``."""
    return _in_turn(
        turn,
        ours=lambda: place.child("sampling", "ours", f"{turn}-sampling-ours"),
        theirs=lambda: place.child("sampling", "theirs", f"{turn}-sampling-theirs"),
    )


def sets(place: Place, turn: int) -> Round:
    """Steps drawn from a small prepared set and from a large one."""
    found = _both(
        turn,
        ours=lambda: place.child("sets", "small", f"{turn}-sets-small"),
        theirs=lambda: place.child("sets", "large", f"{turn}-sets-large"),
    )
    return {"small": found.pop("ours"), "large": found.pop("theirs"), **found}


def ppo(part: str) -> Callable[[Place, int], Round]:
    """PPO on prompts of one length, each of our ways beside trl's."""

    def measure(place: Place, turn: int) -> Round:
        sides: dict[str, Callable[[], Measured]] = {
            side: partial(place.child, "ppo_ours", f"{part} {side}", f"{turn}-{part}-{side}")
            for side in PPO_SIDES
        }
        sides["theirs"] = partial(place.child, "ppo_theirs", part, f"{turn}-{part}-theirs")
        return _in_turn(turn, **sides)

    return measure


PARTS: Mapping[str, Callable[[Place, int], Round]] = {
    "dpo": dpo,
    "precomputed": precomputed,
    "reward": reward,
    "sweep": sweep,
    "jobs": jobs,
    "sampling": sampling,
    "sets": sets,
    **{part: ppo(part) for part in PPO_PARTS},
}
"""What ``--only`` names, in the order of a round: ``precomputed`` finds the cache that ``dpo`` filled."""


def measured(
    work: Work, parts: Sequence[str], rounds: int, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, list[Round]]]:
    """What ``prepare`` found out, and the rounds of each part."""
    place = Place(work, folder, say)
    say("preparing: models, tokenizer, batches")
    if not set(parts) <= set(PPO_PARTS):
        place.child("prepare", "sets" if "sets" in parts else "pairs", "prepare")
    if not set(parts).isdisjoint(PPO_PARTS):
        place.child("ppo_prepare", "prompts", "ppo-prepare")
    found: dict[str, list[Round]] = {part: [] for part in PARTS if part in parts}
    for turn in range(1, rounds + 1):
        for part, several in found.items():
            say(f"round {turn} of {rounds}: {part}")
            several.append(PARTS[part](place, turn))
    return world_facts(place.world), found


def _both(turn: int, *, ours: Callable[[], Measured], theirs: Callable[[], Measured]) -> Round:
    """Both sides in turn; their losses are compared."""
    found = _in_turn(turn, ours=ours, theirs=theirs)
    pairs = zip(found["ours"].pop("losses"), found["theirs"].pop("losses"), strict=True)
    return {**found, "loss_difference": max(abs(one - other) for one, other in pairs)}


def _in_turn(turn: int, **sides: Callable[[], Measured]) -> Round:
    """One after the other, in even rounds the other way round."""
    order = list(sides) if turn % 2 else list(reversed(sides))
    found = {side: sides[side]() for side in order}
    return {side: found[side] for side in sides}


def _filled(place: Place, turn: int) -> Path:
    """The cache that this round's ``dpo`` fills."""
    return place.folder / "caches" / f"{turn}-dpo"
