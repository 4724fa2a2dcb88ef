"""Pools on disk: each prompt once, the same bytes wherever a run was stopped, other data refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from align.errors import CheckpointError
from align.generation.chunks import seed_of
from align.generation.pools import Pool, drawn_pools
from align.tensors import SampledReply
from align.types import Message, Prompt

PROMPTS: list[Prompt] = [(Message("user", f"Say {n}.\u2028"),) for n in range(7)]
CHUNK, SEED = 3, 11


class Model:
    """Two replies a prompt that follow from the chunk's seed; the second holds half a character."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.stops_at = stops_at

    def __call__(self, prompts: Sequence[Prompt], seed: int) -> list[Pool]:
        if len(self.asked) == self.stops_at:
            raise KeyboardInterrupt
        self.asked.append(seed)
        return [
            Pool(
                prompt,
                (
                    SampledReply(f"{seed} {n}", (n, 2), True),
                    SampledReply("half \ud83d", (seed % 1000,), False),
                ),
                {"gold": (n / 3, -1.5), "proxy": (0.1, 0.2)},
            )
            for n, prompt in enumerate(prompts)
        ]


def drawn(path: Path, model: Model) -> list[Pool]:
    return drawn_pools(path, PROMPTS, CHUNK, SEED, model)


def test_what_is_read_is_what_was_drawn(tmp_path: Path) -> None:
    path, again = tmp_path / "pools.jsonl", Model()
    first = drawn(path, Model())
    assert [pool.prompt for pool in first] == PROMPTS
    content = path.read_bytes()
    assert drawn(path, again) == first
    assert again.asked == []
    assert path.read_bytes() == content


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, chunks: int) -> None:
    whole, broken, model = tmp_path / "whole", tmp_path / "broken", Model()
    expected = drawn(whole, model)
    with pytest.raises(KeyboardInterrupt):
        drawn(broken, Model(stops_at=chunks))
    again = Model()
    assert drawn(broken, again) == expected
    assert again.asked == model.asked[chunks:]
    assert broken.read_bytes() == whole.read_bytes()


def test_a_file_that_a_kill_cut_anywhere_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = drawn(whole, Model())
    content = whole.read_bytes()
    for end in range(0, len(content), 37):
        broken.write_bytes(content[:end])
        assert drawn(broken, Model()) == expected
        assert broken.read_bytes() == content


def test_each_chunk_has_a_seed_of_its_own() -> None:
    seeds = {seed_of(seed, start) for seed in range(4) for start in range(0, 300, 3)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_replies_to_other_prompts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pools.jsonl"
    drawn(path, Model())
    with pytest.raises(CheckpointError, match=r"pools\.jsonl:2 answers another prompt"):
        drawn_pools(path, [PROMPTS[0], *PROMPTS[2:]], CHUNK, SEED, Model())
    with pytest.raises(CheckpointError, match=r"pools\.jsonl:4 answers another prompt"):
        drawn_pools(path, PROMPTS[:3], CHUNK, SEED, Model())
