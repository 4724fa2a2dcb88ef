"""Pools that ``stage=best_of_n`` has left: each prompt's, and who wrote and scored them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from align.collect._bench import judge_named
from align.generation.chunks import seed_of
from align.generation.pools import Pool, chooser_of, read_pools
from align.run import read_record
from align.types import Judge, Prompt, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Pooled:
    """One prompt's replies with what made them, in the order in which they were drawn, and their scores."""

    replies: tuple[Reply, ...]
    ended: tuple[bool, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class _Origin:
    """Who was at work, by the run.json beside the pools; of pools without their run nothing is known."""

    judge: Judge
    model: str | None = None
    sampling: Mapping[str, float] | None = None
    seed: int | None = None
    chunk: int = 1

    def seed_at(self, place: int) -> int | None:
        """The seed with which the pool at a place of the file was drawn: its chunk's."""
        return None if self.seed is None else seed_of(self.seed, place // self.chunk * self.chunk)


def read_pooled(path: Path) -> tuple[dict[Prompt, Pooled], Judge]:
    """The pools of a file by their prompt, and who scored them.

    Raises:
        DataError: there is no such file, or a line holds no pool.
    """
    origin = _origin(path)
    found = {pool.prompt: _pooled(pool, origin, place) for place, pool in enumerate(read_pools(path))}
    return found, origin.judge


def _pooled(pool: Pool, origin: _Origin, place: int) -> Pooled:
    # the last one stands apart there, as the single sample
    mine, seed = pool.replies[:-1], origin.seed_at(place)
    return Pooled(
        tuple(Reply(one.text, origin.model, origin.sampling or {}, seed) for one in mine),
        tuple(one.ended for one in mine),
        pool.scores[chooser_of(pool)][:-1],
    )


def _origin(path: Path) -> _Origin:
    record = read_record(path.parent)
    if record is None or record.get("stage") != "best_of_n":
        return _Origin(Judge("file", str(path)))
    config, inputs = record["config"], record["inputs"]
    hashes = [one.get("sha256", "") for role, one in inputs.items() if role.split(".")[0] == "reward"]
    return _Origin(
        judge_named(config["reward"]["name"], hashes, asks="server" in config["reward"]),
        config["model"]["path"],
        {name: value for name, value in config["sampling"].items() if name != "batch_size"},
        record["seed"],
        config["best_of_n"]["chunk"],
    )
