"""Pools of sampled and scored replies on disk: written chunk by chunk as they come, each prompt once.

What a chunk holds follows from the seed and from where it begins, so that a run that was stopped anywhere
goes on to the same bytes as one that nobody stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import CheckpointError
from align.files import write_whole
from align.types import Prompt, SampledReply


@dataclass(frozen=True)
class Pool:
    """One prompt's replies, in the order in which they were drawn, and what each scored, by who scored."""

    prompt: Prompt
    replies: tuple[SampledReply, ...]
    scores: dict[str, tuple[float, ...]]


Draw = Callable[[Sequence[Prompt], int], list[Pool]]
"""Prompts of a chunk, and its seed -> their pools."""


def drawn_pools(path: Path, prompts: Sequence[Prompt], chunk: int, seed: int, draw: Draw) -> list[Pool]:
    """The pools of all prompts: those that ``path`` holds already, then the others, appended as they come.

    Raises:
        CheckpointError: the file holds replies to other prompts than these.
    """
    pools = _whole_chunks(path, prompts, chunk)
    # what a kill left of a chunk goes first, so that nothing stands twice
    write_whole(path, b"".join(map(_line, pools)))
    with path.open("ab") as file:
        for start in range(len(pools), len(prompts), chunk):
            found = draw(prompts[start : start + chunk], seed_of(seed, start))
            file.write(b"".join(map(_line, found)))
            file.flush()
            os.fsync(file.fileno())
            pools += found
    return pools


def seed_of(seed: int, start: int) -> int:
    """The seed of the chunk that begins with prompt number ``start``."""
    digest = hashlib.blake2b(f"{seed} {start}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def prompt_messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as it stands in files."""
    return [{"role": message.role, "content": message.content} for message in prompt]


def _whole_chunks(path: Path, prompts: Sequence[Prompt], chunk: int) -> list[Pool]:
    """The pools of those chunks of a file that are whole."""
    if not path.exists():
        return []
    pools: list[Pool] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
        row = _row(line)
        if row is None:
            break
        if number >= len(prompts) or row["prompt"] != prompt_messages(prompts[number]):
            raise CheckpointError(
                f"{path}:{number + 1} answers another prompt than this run asks: the data has changed. "
                f"Give another run.dir"
            )
        pools.append(Pool(prompts[number], *_answers(row)))
    return pools if len(pools) == len(prompts) else pools[: len(pools) // chunk * chunk]


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's values, or None where it is not whole."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"prompt", "replies"} <= row.keys() else None


def _answers(row: dict[str, Any]) -> tuple[tuple[SampledReply, ...], dict[str, tuple[float, ...]]]:
    found = row["replies"]
    replies = tuple(SampledReply(one["text"], tuple(one["token_ids"]), one["ended"]) for one in found)
    return replies, {name: tuple(one["scores"][name] for one in found) for name in found[0]["scores"]}


def _line(pool: Pool) -> bytes:
    replies = [
        {
            "text": reply.text,
            "token_ids": list(reply.token_ids),
            "ended": reply.ended,
            "scores": {name: scores[place] for name, scores in pool.scores.items()},
        }
        for place, reply in enumerate(pool.replies)
    ]
    row = {"prompt": prompt_messages(pool.prompt), "replies": replies}
    # escaped, so that half a character (cut by the tokenizer), which has no UTF-8, comes back as it was
    return json.dumps(row, allow_nan=False).encode() + b"\n"
