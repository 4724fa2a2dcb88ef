"""Replies of a server are kept as they come, by all that decides them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stand_in_server import Said, StandIn, completion, problem, serving

from align.collect._writers import ServedWriter, kept_replies
from align.errors import ServerError
from align.generation.address import ServerSettings
from align.generation.server import open_server
from align.settings import SamplingSettings
from align.types import Message, Prompt

DRAWN = SamplingSettings(max_new_tokens=9, temperature=0.5)


def prompts(*texts: str) -> list[Prompt]:
    return [(Message("user", text),) for text in texts]


def counted(body: Mapping[str, Any], count: int) -> Said:
    """Another answer each time; one about "long" is cut."""
    text = body["messages"][-1]["content"]
    return completion(f"{text} {count}", finish="length" if text == "long" else "stop")


@contextmanager
def writer(stand_in: StandIn, cache: Path, sampling: SamplingSettings = DRAWN) -> Iterator[ServedWriter]:
    settings = ServerSettings(stand_in.url, "m", pause=0.01, concurrency=1)
    with open_server(settings) as server:
        yield ServedWriter(server, sampling, kept_replies(cache, settings))


def test_a_reply_is_asked_for_once(tmp_path: Path):
    with serving(counted) as stand_in:
        with writer(stand_in, tmp_path) as one:
            first = one.write(prompts("a", "long"), 7)
        with writer(stand_in, tmp_path) as another:
            assert another.write(prompts("a", "long"), 7) == first
        assert len(stand_in.asked) == 2
    assert [(draft.text, draft.ended) for draft in first] == [("a 1", True), ("long 2", False)]
    assert first[0].reply.model == "m"
    assert [draft.reply.seed for draft in first] == [body["seed"] for body in stand_in.asked]


def test_what_decides_a_reply_makes_it_another(tmp_path: Path):
    """Another seed, place, prompt or sampling; the same prompt twice is answered twice."""
    with serving(counted) as stand_in, writer(stand_in, tmp_path) as one:
        found = [
            *one.write(prompts("a", "a"), 7),
            *one.write(prompts("a"), 8),
            *one.write(prompts("b"), 7),
            *one.sampling_by(replace(DRAWN, temperature=0.6)).write(prompts("a"), 7),
            *one.sampling_by(replace(DRAWN, max_new_tokens=8)).write(prompts("a"), 7),
        ]
        assert len({draft.text for draft in found}) == len(stand_in.asked) == 6
        # how many are drawn at once does not decide anything
        one.sampling_by(replace(DRAWN, batch_size=3)).write(prompts("a"), 7)
        assert len(stand_in.asked) == 6


def test_without_chance_a_question_has_one_answer(tmp_path: Path):
    greedy = replace(DRAWN, temperature=0.0)
    with serving(counted) as stand_in, writer(stand_in, tmp_path, greedy) as one:
        found = [*one.write(prompts("a", "a"), 7), *one.write(prompts("a"), 8)]
        assert {draft.text for draft in found} == {"a 1"}
        assert len(stand_in.asked) == 1


def test_what_came_before_a_failure_is_kept(tmp_path: Path):
    def failing(body: Mapping[str, Any], count: int) -> Said:
        return problem(400, "no") if count == 3 else counted(body, count)

    with serving(failing) as stand_in, writer(stand_in, tmp_path) as one:
        with pytest.raises(ServerError, match="400: no"):
            one.write(prompts("a", "b", "c", "d"), 7)
        stand_in.answer = counted
        found = [draft.text for draft in one.write(prompts("a", "b", "c", "d"), 7)]
    assert found == ["a 1", "b 2", "c 4", "d 5"]
