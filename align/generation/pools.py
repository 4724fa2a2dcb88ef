"""Pools of sampled and scored replies on disk: written chunk by chunk as they come, each prompt once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import CheckpointError, DataError
from align.generation.chunks import in_chunks
from align.tensors import SampledReply
from align.types import Message, Prompt


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
    return in_chunks(path, prompts, chunk, seed, draw, lambda _prompt, pool: _line(pool), _pool)


def read_pools(path: Path) -> Iterator[Pool]:
    """The pools of a file that was written to its end.

    Raises:
        DataError: there is no such file, or a line holds no pool.
    """
    if not path.is_file():
        raise DataError(f"no file {path}: give a run of stage=best_of_n, or its pools.jsonl")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                prompt = tuple(Message(one["role"], one["content"]) for one in row["prompt"])
                yield Pool(prompt, *_answers(row))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(f"{path}:{number}: no pool of replies") from error


def pools_file(path: str) -> Path:
    """The pools of a run directory, or the file itself."""
    return Path(path) / "pools.jsonl" if Path(path).is_dir() else Path(path)


def chooser_of(pool: Pool) -> str:
    """Whose scores chose: those of the reward that was asked for."""
    return "proxy" if "proxy" in pool.scores else next(iter(pool.scores))


def finished_places(replies: Sequence[tuple[str, bool]]) -> list[int]:
    """Places of the replies (text, whether it ended by itself) that are whole and not blank.

    One that was cut, or that is blank, is nothing to imitate.
    """
    return [place for place, (text, ended) in enumerate(replies) if ended and text.strip()]


def prompt_messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as it stands in files."""
    return [{"role": message.role, "content": message.content} for message in prompt]


def _pool(prompt: Prompt | None, row: dict[str, Any], place: str) -> Pool | None:
    if not {"prompt", "replies"} <= row.keys():
        return None
    if prompt is None or row["prompt"] != prompt_messages(prompt):
        raise CheckpointError(
            f"{place} answers another prompt than this run asks: the data has changed. Give another run.dir"
        )
    return Pool(prompt, *_answers(row))


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
